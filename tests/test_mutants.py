import runpy


def test_every_mutation_can_be_planted():
    mutants = runpy.run_path(__file__.replace("test_mutants", "mutants"))["read"]()
    assert len(mutants) >= 40
