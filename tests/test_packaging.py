"""What an installation brings: two commands, one plugin, the types.

These look at the installation that the tests run in.  ``tox -e packaging``
builds the wheel and looks at a clean one.
"""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import tomllib
from importlib.metadata import Distribution, distribution
from pathlib import Path
from tempfile import TemporaryDirectory

from twisted.application.service import IServiceMaker, ServiceMaker
from twisted.plugin import IPlugin
from twisted.python.reflect import namedAny
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
PLUGIN = ROOT / "twisted" / "plugins" / "meshnode_plugin.py"


def run(*command: str, cwd: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True)


class PackagingTests(SynchronousTestCase):
    """The installation, seen from within and from another folder."""

    def setUp(self) -> None:
        folder = TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.elsewhere = folder.name
        self.installed: Distribution = distribution("meshproto")

    def script(self, name: str) -> str:
        return str(Path(sysconfig.get_path("scripts")) / name)

    def test_version(self) -> None:
        """The installed copy is this one, not an older one left behind."""
        self.assertEqual(self.installed.version, PROJECT["project"]["version"])

    def test_no_upper_bounds(self) -> None:
        """A cap would make us the one that holds everybody's upgrade back."""
        capped = [
            requirement
            for requirement in self.installed.requires or ()
            if any(cap in requirement for cap in ("<", "==", "~="))
            and "extra ==" not in requirement
        ]
        self.assertEqual(capped, [])

    def test_types_are_shipped(self) -> None:
        """Type checkers of applications see our annotations."""
        self.assertTrue((ROOT / "meshproto" / "py.typed").is_file())

    def test_only_the_plugin_file_is_packed(self) -> None:
        """The plugin folder's cache of this machine stays on this machine."""
        wheel = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]
        self.assertEqual(
            wheel["only-include"], ["meshproto", "twisted/plugins/meshnode_plugin.py"]
        )
        for folder in ("twisted", "twisted/plugins"):
            self.assertFalse((ROOT / folder / "__init__.py").exists(), folder)

    def test_plugin(self) -> None:
        """The plugin file describes a service that twistd can make."""
        namespace: dict[str, object] = {}
        exec(compile(PLUGIN.read_text("utf-8"), PLUGIN, "exec"), namespace)
        makers = [each for each in namespace.values() if isinstance(each, ServiceMaker)]
        self.assertEqual([maker.tapname for maker in makers], ["meshnode"])
        for interface in (IServiceMaker, IPlugin):
            verifyObject(interface, makers[0])
        for name in ("Options", "makeService"):
            self.assertTrue(callable(namedAny(f"{makers[0].module}.{name}")), name)

    def test_twistd_lists_the_plugin(self) -> None:
        """The installed twistd knows ``meshnode``, from any folder."""
        shown = run(self.script("twistd"), "--help", cwd=self.elsewhere)
        self.assertEqual(shown.returncode, 0, shown.stderr)
        self.assertRegex(shown.stdout, r"\n +meshnode +\w")

    def test_twistd_knows_the_options(self) -> None:
        """``twistd meshnode --help`` explains itself."""
        shown = run(self.script("twistd"), "meshnode", "--help", cwd=self.elsewhere)
        self.assertEqual(shown.returncode, 0, shown.stderr)
        self.assertIn("--bootstrap", shown.stdout)

    def test_command(self) -> None:
        """``meshproto`` and ``python -m meshproto`` are one program."""
        for command in (
            [self.script("meshproto")],
            [sys.executable, "-m", "meshproto"],
        ):
            shown = run(*command, "--version", cwd=self.elsewhere)
            self.assertEqual(shown.returncode, 0, shown.stderr)
            self.assertIn(self.installed.version, shown.stdout)
