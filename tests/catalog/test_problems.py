"""What a misspelt name may have been meant to be."""

import pytest

from catalog.dimension import BY_MIN_KEY, DIMENSIONS
from catalog.keys import CLASS, DEFAULT_CLASS, GPU
from catalog.problems import close, nearest

SIZE_FIELDS = ("arch", "cost", "cpu", "disk", "family", "generation", "gpu", "localDisk", "memory", "network", "vcpu")
CLASSES = ("batch", "c7", "g7", "general", "gpu-inference", "hf", "hfc", "hfg", "hfr", "hg", "net", "net-intensive")
KNOWN = (
    SIZE_FIELDS,
    CLASSES,
    (CLASS, GPU, DEFAULT_CLASS, *BY_MIN_KEY),
    tuple(d.path for d in DIMENSIONS),
    ("A10", "A30", "L20", "T4"),
)


def swaps(name: str) -> list[str]:
    """Every way to write two letters of a name in the wrong order."""
    return [name[:i] + name[i + 1] + name[i] + name[i + 2 :] for i in range(len(name) - 1)]


@pytest.mark.parametrize(
    ("name", "known", "said"),
    [
        pytest.param("cup", SIZE_FIELDS, "did you mean cpu?", id="a short field"),
        pytest.param("pcu", ("cpu", "gpu"), "did you mean cpu?", id="a swap before a letter that was never meant"),
        pytest.param("hgf", CLASSES, "did you mean hfg?", id="a class, among others as short"),
        pytest.param("7g", CLASSES, "did you mean g7?", id="two letters"),
        pytest.param("Cup", SIZE_FIELDS, "did you mean cpu?", id="in the wrong case too"),
        pytest.param("a0b", ("a0b1", "ab0", "0ab"), "did you mean 0ab or ab0?", id="two names are a swap away"),
        pytest.param("clas", ("class", "cost"), "did you mean class?", id="a letter is missing"),
        pytest.param("gfh", ("hfg",), "known are hfg", id="letters that are not neighbours are no swap"),
        pytest.param("zz", CLASSES[:3], "known are batch, c7, g7", id="nothing is near"),
        pytest.param("pps", ("network.pps",), "did you mean network.pps?", id="the end of a name"),
        pytest.param("x", (), "there is none", id="nothing is known"),
    ],
)
def test_nearest(name: str, known: tuple[str, ...], said: str) -> None:
    assert nearest(name, known) == said


@pytest.mark.parametrize("known", KNOWN, ids=lambda names: names[0])
def test_two_letters_in_the_wrong_order_are_always_found(known: tuple[str, ...]) -> None:
    missed = {
        wrong: close(wrong, known)
        for name in known
        for wrong in swaps(name)
        if wrong not in known and name not in close(wrong, known)
    }

    assert missed == {}
