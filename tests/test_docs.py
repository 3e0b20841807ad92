"""What the documents say is what the results hold, and what they link to is there."""

import importlib
import importlib.util
import re
from pathlib import Path

import pytest
import typer.main

from modeltoll.cli import app

ROOT = Path(__file__).resolve().parent.parent


def refresh():
    spec = importlib.util.spec_from_file_location("refresh", ROOT / "docs" / "refresh.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


DOCUMENTS = refresh().documents()


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_tables_are_made_from_the_results(path):
    text = path.read_text()
    assert refresh().refreshed(text) == text


@pytest.mark.parametrize(
    "path", [*DOCUMENTS, ROOT / "CHANGELOG.md", ROOT / "results" / "README.md"], ids=lambda path: path.name
)
def test_relative_links_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)#\s]+)", path.read_text()):
        if "://" not in target:
            assert (path.parent / target).exists(), f"{path.name} links to {target}"


def test_the_readme_begins_with_what_it_is_two_commands_and_a_picture():
    head = (ROOT / "README.md").read_text()[:1500]
    assert "make demo" in head
    assert "pip install" in head
    assert "](docs/images/demo.png)" in head


@pytest.fixture
def site(monkeypatch):
    """A module of the site's, by its name."""

    def module(name):
        monkeypatch.syspath_prepend(ROOT / "docs" / "site")
        return importlib.import_module(name)

    return module


def test_every_verb_and_option_is_in_the_reference_of_the_command_line(site):
    made = site("command_line").command_line()
    top = typer.main.get_command(app)
    verbs = {f"modeltoll {name}": command for name, command in top.commands.items() if not hasattr(command, "commands")}
    assert len(verbs) > 10
    for name, command in verbs.items():
        section = made.partition(f"## `{name}` ")[2].partition("\n## ")[0]
        assert all(option in section for parameter in command.params for option in parameter.opts if option[0] == "-")


def test_links_of_the_repository_become_links_of_the_site(site):
    rewrite = site("outside").rewrite
    assert rewrite("how-to/operating.md", "[a](../../deploy/README.md#x)") == "[a](deploying.md#x)"
    assert rewrite("how-to/deploying.md", "[a](../docs/how-to/operating.md)") == "[a](operating.md)"
    assert rewrite("changelog.md", "[a](docs/explanation/report.md)") == "[a](explanation/report.md)"
    assert rewrite("how-to/clients.md", "[a](../../results/a.json)") == "[a](../files/results/a.json)"
    assert rewrite("index.md", "[a](https://a.example/b.md) [b](#c)") == "[a](https://a.example/b.md) [b](#c)"


def test_a_link_to_a_file_that_is_not_there_is_an_error(site):
    outside = site("outside")
    with pytest.raises(FileNotFoundError, match=r"results/none\.json"):
        outside.linked_files(["index.md"], {"index.md": "[a](../results/none.json)"}.__getitem__)
    found = outside.linked_files(
        ["index.md"], {"index.md": "[a](../pyproject.toml) [b](../deploy/README.md)"}.__getitem__
    )
    assert found == {"pyproject.toml"}
