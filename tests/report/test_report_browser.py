"""The report page in headless Chromium: its script runs, sorts, filters, and the address keeps the state."""

from __future__ import annotations

import pytest
from chromium import dump_dom
from report_sample import sample_report

from qcompiler.report import LayerErrorRow, write_report


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    return write_report(sample_report(60), tmp_path_factory.mktemp("report"))


def heads(dom):
    return {
        a["data-key"]: a.get("aria-sort")
        for a in dom.named("th")
        if "data-key" in a and a["data-key"] != "module"
    }


def test_the_script_runs_and_makes_the_heads_buttons(page):
    dom = dump_dom(page)
    assert len(dom.tables["layers"]) == 60
    assert set(heads(dom).values()) == {"none"}
    assert len(dom.named("button")) == len([a for a in dom.named("th") if "data-key" in a])
    assert "60 rows" in dom.text


def test_the_address_sorts_and_filters_and_opens_the_table(page):
    dom = dump_dom(
        page, "layers.sort=alone&layers.filter=dw+blocks.&coverage.sort=module&coverage.filter=conv"
    )
    values = [float(row[3]) for row in dom.tables["layers"]]
    assert len(values) == 14
    assert values == sorted(values)
    assert heads(dom)["alone"] == "ascending"
    assert all("dw" in row[1] for row in dom.tables["layers"])
    names = [row[0] for row in dom.tables["coverage"]]
    assert names.index("blocks.0.2.conv_pw") < names.index("blocks.1.0.conv_pw")  # numbers inside names
    assert names[-2:] == ["conv_stem", "global_pool"]
    assert f"{len(names)} of 67 rows" in dom.text
    assert any("open" in attributes for attributes in dom.named("details"))


def test_a_click_sorts_and_the_address_keeps_it(page, tmp_path):
    """The page with a second script that clicks; its policy is lifted for that."""
    click = """<script>
      const button = (key) => document.querySelector(`#layers th[data-key=${key}] button`);
      button("max").click();
      const first = location.hash;
      button("run").click(); button("run").click();
      document.querySelector("#layers-tools input").value = "conv_dw";
      document.querySelector("#layers-tools input").dispatchEvent(new Event("input"));
      const result = document.createElement("output");
      result.textContent = `first ${first} last ${location.hash}`;
      document.body.append(result);
    </script></body>"""
    text = page.read_text().replace("http-equiv=", "data-lifted=").replace("</body>", click)
    clicked = tmp_path / "clicked.html"
    clicked.write_text(text)
    dom = dump_dom(clicked)
    assert "first #layers.sort=-max last #layers.sort=-run&layers.filter=conv_dw" in dom.text
    values = [float(row[4]) for row in dom.tables["layers"]]
    assert values and values == sorted(values, reverse=True)
    assert all(row[1].endswith("conv_dw") for row in dom.tables["layers"])
    assert heads(dom)["run"] == "descending"


def test_missing_figures_sort_last_either_way(tmp_path):
    figures = (30.0, None, float("inf"), float("nan"), 10.0)
    rows = tuple(
        LayerErrorRow(
            module=f"m{i}",
            op="linear",
            sqnr_local_db=value,
            sqnr_cumulative_db=20.0,
            max_abs_error=0.1,
            mean_shift=0.0,
        )
        for i, value in enumerate(figures)
    )
    page = write_report(sample_report(10, layers=rows), tmp_path)
    up = [row[1] for row in dump_dom(page, "layers.sort=alone").tables["layers"]]
    down = [row[1] for row in dump_dom(page, "layers.sort=-alone").tables["layers"]]
    assert up == ["m4", "m0", "m2", "m1", "m3"]
    assert down == ["m2", "m0", "m4", "m1", "m3"]


def test_hostile_text_stays_text(tmp_path):
    rows = sample_report(10).layers
    evil = "<img src=x onerror=document.title='owned'><script>document.title='owned'</script>"
    layers = (rows[0].model_copy(update={"module": evil}), *rows[1:])
    dom = dump_dom(write_report(sample_report(10, layers=layers, model=evil), tmp_path))
    assert dom.tables["layers"][0][1] == evil
    assert "owned" not in [a.get("title") for _, a in dom.tags]
    assert not dom.named("img")
    assert len(dom.named("script")) == 1
