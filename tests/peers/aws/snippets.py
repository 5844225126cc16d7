"""Reads a printed snippet with its own language's tools and prints its resources as JSON: `snippets.py LANGUAGE FILE`."""

import importlib.machinery
import importlib.util
import json
import os
import sys
import tempfile


def cdk_python(path):
    import aws_cdk

    loader = importlib.machinery.SourceFileLoader("snippet", path)
    spec = importlib.util.spec_from_loader("snippet", loader)
    snippet = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(snippet)
    with tempfile.TemporaryDirectory() as directory:
        # What CDK adds of its own (its version's metadata, a bootstrap rule) is no part of the snippet.
        app = aws_cdk.App(outdir=directory, analytics_reporting=False)
        place = aws_cdk.Environment(account="123456789012", region="eu-west-1")
        stack = aws_cdk.Stack(app, "Team", env=place, synthesizer=aws_cdk.LegacyStackSynthesizer())
        snippet.ephemwork_bastion(stack)
        app.synth()
        with open(os.path.join(directory, "Team.template.json"), encoding="utf-8") as template:
            text = template.read()
    lint(text)
    return json.loads(text)["Resources"]


def cloudformation(path):
    from cfnlint.decode import decode

    with open(path, encoding="utf-8") as file:
        text = file.read()
    lint(text)
    template, problems = decode(path)
    assert not problems, problems
    return template["Resources"]


def lint(text):
    """cfn-lint's errors and warnings end the program."""
    from cfnlint.api import lint as run
    from cfnlint.config import ManualArgs

    found = run(text, config=ManualArgs(regions=["eu-west-1"]))
    if found:
        sys.exit("\n".join(str(each) for each in found))


def terraform(path):
    import hcl2

    with open(path, encoding="utf-8") as file:
        return plain(hcl2.load(file)["resource"])


def plain(value):
    """Newer versions of hcl2 keep quotation marks and remarks of their own."""
    if isinstance(value, dict):
        return {plain(key): plain(part) for key, part in value.items() if not key.startswith("__")}
    if isinstance(value, list):
        return [plain(part) for part in value]
    return value.strip('"') if isinstance(value, str) else value


READERS = {"cdk-python": cdk_python, "cloudformation": cloudformation, "terraform": terraform}
print(json.dumps(READERS[sys.argv[1]](sys.argv[2]), sort_keys=True))
