"""Lint findings for continuous integration: JUnit XML. Pure."""

from collections.abc import Sequence
from xml.sax.saxutils import escape, quoteattr

from catalog.lint import Finding, Severity


def junit(suite: str, findings: Sequence[Finding]) -> str:
    """Write findings as a JUnit test suite: an error is a failure, a warning a skipped test with its message."""
    errors = sum(f.severity is Severity.ERROR for f in findings)
    cases = "\n".join(map(_case, findings)) or '  <testcase name="no findings" classname="podsla.lint"/>'
    head = f'<testsuite name={quoteattr(suite)} tests="{max(1, len(findings))}" failures="{errors}"'
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{head} skipped="{len(findings) - errors}">\n{cases}\n</testsuite>'


def _case(finding: Finding) -> str:
    kind = "failure" if finding.severity is Severity.ERROR else "skipped"
    name = quoteattr(f"{finding.path or 'class'}: {finding.reason}")
    message = f"<{kind} message={quoteattr(finding.message)}>{escape(str(finding))}</{kind}>"
    return f"  <testcase classname={quoteattr(finding.subject)} name={name}>{message}</testcase>"
