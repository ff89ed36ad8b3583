"""What Dagster shows of a whole run with the database that it published."""

import dagster as dg

from assets import run_report
from assets.run_report import Entry


def test_a_run_ends_with_what_it_did_and_what_its_warnings_and_checks_ask_for() -> None:
    @dg.asset
    def catalog() -> dg.MaterializeResult:
        return dg.MaterializeResult(
            metadata={"summary": "12 songs", "warnings": "2 files are gone: mount it\nsecond"}
        )

    @dg.asset_check(asset=catalog)
    def model_fits() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(
            passed=False, severity=dg.AssetCheckSeverity.WARN, description="run the job train"
        )

    @dg.asset_check(asset=catalog)
    def sound() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=True, description="all is well")

    @dg.asset(deps=[catalog])
    def database(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        made = dg.MaterializeResult(metadata={"summary": "12 songs with vectors"})
        return dg.MaterializeResult(metadata={**made.metadata, **run_report.report(context, made)})

    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize([catalog, model_fits, sound, database], instance=instance)
        (event,) = result.asset_materializations_for_node("database")
    table = event.metadata["what happened (table)"]
    assert isinstance(table, dg.TableMetadataValue)
    assert [record.data for record in table.records] == [
        {"asset": "catalog", "what was done": "12 songs"},
        {"asset": "database", "what was done": "12 songs with vectors"},
    ]
    assert event.metadata["what to do next"].value == (
        "- **catalog**: 2 files are gone\\: mount it\n"
        "- **catalog**: second\n"
        "- **catalog**: the check “model fits” fails\\: run the job train"
    )


def test_where_nothing_is_to_be_done_that_is_said() -> None:
    assert run_report.to_do([Entry("catalog", "12 songs")]) == run_report.NOTHING


def test_names_of_files_are_shown_as_they_are_and_each_thing_once() -> None:
    told = Entry("a_b", todo=["<img src=x> [x](javascript:y) *z*\n# n", "same", "same"])
    assert run_report.to_do([told]) == (
        "- **a\\_b**: \\<img src=x\\> \\[x\\]\\(javascript\\:y\\) \\*z\\* \\# n\n- **a\\_b**: same"
    )
