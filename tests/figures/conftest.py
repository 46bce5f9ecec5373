import pytest
from matplotlib.figure import Figure


@pytest.fixture(scope="package", autouse=True)
def _no_words_are_cut():
    """Labels, titles, legends and captions of each saved picture lie inside of it."""
    save = Figure.savefig

    def checked(figure, *args, **options):
        save(figure, *args, **options)
        figure.draw_without_rendering()  # places words for the figure's own resolution again
        renderer, (width, height) = figure.canvas.get_renderer(), figure.bbox.size
        texts = [text for text in figure.texts if text.get_fontsize() < 12]  # no watermark
        for axes in figure.axes:
            legend = axes.get_legend()
            texts += [axes.xaxis.label, axes.yaxis.label, axes.title, axes._left_title]
            texts += legend.get_texts() if legend else []
        for text in texts:
            box = text.get_window_extent(renderer)
            inside = box.x0 >= -1 and box.y0 >= -1 and box.x1 <= width + 1 and box.y1 <= height + 1
            assert not text.get_text() or inside, text

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", checked)
        yield
