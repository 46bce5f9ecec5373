from omd import compilation


def test_options_that_xla_does_not_know_are_left_out():
    options = {"xla_cpu_prefer_vector_width": 512, "xla_cpu_no_such_option": True}
    assert compilation.known(options) == {"xla_cpu_prefer_vector_width": 512}
    assert compilation.known({}) == {}
