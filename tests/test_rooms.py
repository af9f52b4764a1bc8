"""The rooms of the package: imports go downwards only, without circles, and nothing private crosses a wall."""

import pytest
from structure import FILES, FLOOR, PACKAGE, TOP, circles, functions, imports, room_of


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_imports_go_downwards(file):
    own = room_of(file)
    for each in imports(file):
        if each.room == own:
            continue
        where = f"{file.relative_to(PACKAGE)} imports {each.module}.{each.name}"
        assert each.room or each.name == "__version__", f"{where} from the package's root"
        assert FLOOR.get(each.room, 0) < FLOOR.get(own, TOP), f"{where}, from {own} up to {each.room}"
        assert not each.name.startswith("_") or each.name == "__version__", f"{where}, which is private to {each.room}"


def test_no_modules_import_each_other():
    assert circles() == []


def test_little_stands_at_the_root():
    assert {file.name for file in PACKAGE.glob("*.py")} <= {"__init__.py", "__main__.py", "errors.py"}


def test_functions_fit_on_a_screen():
    assert [f"{file.relative_to(PACKAGE)}:{name}" for lines, file, name in functions() if lines > 50] == []
