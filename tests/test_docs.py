"""What the documentation tells to do is done, word for word."""

import re

import torch
from atomic import ROOT, isolate


def test_the_page_on_your_own_model_can_be_followed(tmp_path, monkeypatch, capsys):
    isolate(monkeypatch, tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    page = (ROOT / "docs" / "your-own-model.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", page, flags=re.MULTILINE | re.DOTALL)
    name = re.match(r"# (\w+\.py)\n", blocks[0])[1]
    (tmp_path / name).write_text(blocks[0], encoding="utf-8")
    torch.manual_seed(0)
    space: dict = {}
    for block in blocks[1:]:
        exec(compile(block, "your-own-model.md", "exec"), space)
    assert len(blocks) == 3
    assert space["result"]["epochs"] == 3
    assert space["result"]["test_result"]["ndcg@10"] > 0.01  # chance is .0027
    assert str(space["result"]["test_result"]) in capsys.readouterr().out
    assert not torch.equal(space["together"][0], space["together"][1])
