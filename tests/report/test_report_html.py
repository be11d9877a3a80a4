"""The report page: escaping, nothing from outside, size, determinism, and what it says."""

from __future__ import annotations

import math
import re

from chromium import Dom
from report_sample import sample_report

from qcompiler.report import (
    CoverageRow,
    Decision,
    PassNote,
    ReportData,
    SiteNote,
    Unfused,
    render_report,
    write_report,
)
from qcompiler.report.html import PAGE_LIMIT
from qcompiler.report.plot import layer_error_svg, module_bands

EVIL = "<script>alert('x')</script>\"'&$a_b$"
VOID = {"meta", "link", "input", "br", "img"}


def evil_report() -> ReportData:
    """Every text a user can choose is hostile."""
    good = sample_report(12)
    return good.model_copy(
        update={
            "model": EVIL,
            "target": EVIL,
            "recipe": EVIL,
            "warnings": (EVIL,),
            "versions": {EVIL: EVIL},
            "isa": EVIL,
            "model_hash": EVIL,
            "layers": tuple(
                row.model_copy(update={"module": f"a.{EVIL}", "op": EVIL}) for row in good.layers
            ),
            "coverage": (
                CoverageRow(module=EVIL, op=EVIL, dtype=EVIL, kernel=EVIL, quantized=True),
                CoverageRow(module=EVIL, op=EVIL, dtype=EVIL, quantized=False, why_not=EVIL),
            ),
            "passes": (
                PassNote(
                    name=EVIL,
                    kind="EXACT",
                    taken=(SiteNote(site=EVIL, text=EVIL),),
                    refused=(SiteNote(site=EVIL, text=EVIL),),
                ),
            ),
            "decisions": (Decision(kind=EVIL, site=EVIL, chosen=EVIL, why=EVIL, unit=EVIL),),
            "unfused": (Unfused(module=EVIL, op=EVIL, why=EVIL),),
            "verification": tuple(
                run.model_copy(update={"name": EVIL, "level": EVIL, "local_module": EVIL, "local_op": EVIL})
                for run in good.verification
            ),
        }
    )


def test_every_user_text_is_escaped():
    page = render_report(evil_report())
    assert "<script>alert" not in page
    assert page.count("<script>") == 1  # the page's own
    assert page.count("&lt;script&gt;alert") > 30


def test_the_tags_close_in_order():
    opened = []

    class Checker(Dom):
        def handle_starttag(self, tag, attrs):
            if tag not in VOID:
                opened.append(tag)

        def handle_endtag(self, tag):
            assert opened.pop() == tag, f"</{tag}> at {self.getpos()}"

    for data in (sample_report(30), evil_report(), ReportData(target="onnx", recipe="w8a8")):
        checker = Checker()
        checker.handle_startendtag = lambda tag, attrs: None
        checker.feed(render_report(data))
        assert opened == []


def test_the_page_refers_to_nothing_outside_itself():
    page = render_report(sample_report(60))
    assert "://" not in page
    assert "@import" not in page and "url(" not in re.sub(r"url\(#[\w-]+\)", "", page)
    links = [tag for tag in Dom(page).tags if {"href", "src", "srcset", "action"} & set(tag[1])]
    for _, attributes in links:
        assert not {"src", "srcset", "action"} & set(attributes)
        assert attributes["href"].startswith(("#", "data:,"))
    policy = next(m for m in Dom(page).named("meta") if m.get("http-equiv") == "Content-Security-Policy")
    assert policy["content"].startswith("default-src 'none';")


def test_anchors_and_labels_point_at_something():
    page = Dom(render_report(sample_report(60)))
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in page.tags:
        for name in ("aria-labelledby", "aria-controls"):
            assert attributes.get(name) is None or attributes[name] in ids
        if (attributes.get("href") or "").startswith("#"):
            assert attributes["href"][1:] in ids


def test_header_cells_have_a_scope():
    heads = Dom(render_report(sample_report(20))).named("th")
    assert len(heads) > 40
    assert all(attributes.get("scope") in ("col", "row") for attributes in heads)


def test_the_page_stays_small(tmp_path):
    data = sample_report(400)
    page = write_report(data, tmp_path)
    assert page.stat().st_size <= PAGE_LIMIT
    assert ReportData.from_json((tmp_path / "report.json").read_bytes()) == data
    assert len(Dom(page.read_text()).tables["layers"]) == 400


def test_a_page_beyond_its_limit_drops_the_least_interesting_rows_and_says_so():
    data = sample_report(3000)
    text = render_report(data)
    assert len(text.encode()) <= PAGE_LIMIT
    page = Dom(text)
    layers, coverage = page.tables["layers"], page.tables["coverage"]
    assert f"{len(layers):,} of 3,000 rows are shown here; report.json has all of them" in page.text
    worst = min(range(3000), key=lambda i: data.layers[i].sqnr_local_db)
    assert str(worst) in [row[0] for row in layers]
    floats = [row for row in coverage if row[4].startswith("not quantized")]
    assert len(floats) == sum(not row.quantized for row in data.coverage)


def test_the_same_data_gives_the_same_bytes():
    assert render_report(sample_report(50)) == render_report(sample_report(50))


def test_the_page_says_what_the_data_says():
    text = " ".join(Dom(render_report(sample_report(60))).text.replace("\N{NO-BREAK SPACE}", " ").split())
    for phrase in (
        "efficientnet_lite0 on onnxruntime-cpu, w8a8",
        "2.4× faster",
        "12.3 ms → 5.13 ms",
        "3.8× smaller",
        "60 of 67 ops are quantized",
        "64 samples of held-back calibration data (no evaluation data was given)",
        "the recipe allows softmax in float",
        "its output is also read by blocks.2.1.add",
        "14 sites refused: no second convolution follows",
        "Found no site: fuse_attention.",
        "the quantized region is 17 % slower than float",
        "41 of 16,000",
        "the runtime has no integer kernel for this pool",
        "peak memory 842 MB",
        "onnxruntime 1.31.1",
    ):
        assert phrase in text, phrase


def test_a_failed_verification_cannot_be_missed():
    good = sample_report(10)
    bad = good.verification[1].model_copy(update={"passed": False})
    text = Dom(render_report(good.model_copy(update={"verification": (good.verification[0], bad)}))).text
    assert "Verification failed: ONNX Runtime, optimisations on. Do not use this artefact." in text
    assert "FAILED" in text


def test_the_worst_op_of_a_run_is_named_with_or_without_its_type():
    run = (
        sample_report(10)
        .verification[0]
        .model_copy(update={"local_op": "", "local_module": "conv at blocks.3"})
    )
    text = Dom(render_report(sample_report(10, verification=(run,)))).text.replace("\N{NO-BREAK SPACE}", " ")
    assert "conv at blocks.3: 0.04 % differ, 1 LSB" in text


def test_an_empty_report_says_what_is_missing():
    text = Dom(render_report(ReportData(target="onnx", recipe="w8a8"))).text
    for phrase in ("not measured", "not verified", "No coverage table", "Per-layer errors were not measured"):
        assert phrase in text


def test_the_plot_names_its_layers_and_keeps_text_as_text():
    data = sample_report(300)
    svg = layer_error_svg(data.layers)
    assert svg.count('href="#layer-') == 300
    assert f"<title>{data.layers[17].module} (" in svg
    assert "SQNR, dB (higher is better)</text>" in svg
    assert "blocks.3</text>" in svg
    assert "target=" not in svg
    assert "<metadata" not in svg and "xmlns" not in svg


def test_exact_and_undefined_layers_have_no_point():
    rows = sample_report(10).layers
    odd = [{"sqnr_local_db": math.inf}, {"sqnr_local_db": math.nan}, {"sqnr_local_db": None}]
    changed = tuple(row.model_copy(update=change) for row, change in zip(rows, odd, strict=False))
    assert layer_error_svg((*changed, *rows[3:])).count('href="#layer-') == 7
    exact = tuple(
        row.model_copy(update={"sqnr_local_db": None, "sqnr_cumulative_db": math.inf}) for row in rows
    )
    assert layer_error_svg(exact) == ""
    assert render_report(sample_report(10, layers=exact)).count("exact") >= 10


def test_one_nearly_exact_layer_does_not_flatten_the_rest():
    rows = sample_report(10).layers
    changed = (rows[0].model_copy(update={"sqnr_local_db": 250.0}), *rows[1:])
    svg = layer_error_svg(changed)
    assert ">80</text>" in svg and ">100</text>" not in svg
    assert "alone 250.0" in svg


def test_module_bands_are_few_and_cover_every_layer():
    rows = sample_report(300).layers
    bands = module_bands(rows)
    assert [band[2] for band in bands[:3]] == ["conv_stem", "blocks.0", "blocks.1"]
    assert 2 <= len(bands) <= 16
    assert [first for first, _, _ in bands[1:]] == [last + 1 for _, last, _ in bands[:-1]]
    assert (bands[0][0], bands[-1][1]) == (0, 299)


def test_one_module_has_no_bands():
    rows = sample_report(10).layers
    assert module_bands([row.model_copy(update={"module": "linear"}) for row in rows]) == []
