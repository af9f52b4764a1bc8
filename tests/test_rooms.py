"""The rooms of the package: imports go downwards only, without circles, and nothing private crosses a wall."""

from structure import FILES, FLOOR, PACKAGE, TOP, circles, functions, imports, room_of


def test_imports_go_downwards():
    for file in FILES:
        own = room_of(file)
        for each in imports(file):
            if each.room == own:
                continue
            where = f"{file.relative_to(PACKAGE)} imports {each.module}.{each.name}"
            assert each.room or each.name == "__version__", f"{where} from the package's root"
            assert FLOOR.get(each.room, 0) < FLOOR.get(own, TOP), f"{where}, from {own} up to {each.room}"
            private = each.name.startswith("_") and each.name != "__version__"
            assert not private, f"{where}, which is private to {each.room}"


def test_no_modules_import_each_other():
    assert circles() == []


def test_little_stands_at_the_root():
    assert {file.name for file in PACKAGE.glob("*.py")} <= {"__init__.py", "__main__.py", "errors.py"}


def test_functions_fit_on_a_screen():
    assert [f"{file.relative_to(PACKAGE)}:{name}" for lines, file, name in functions() if lines > 50] == []
