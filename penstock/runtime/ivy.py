"""Maven coordinates to jar files, by the Ivy that pyspark ships: no Maven needed, no download code of ours."""

import re
import subprocess
import tempfile
from pathlib import Path
from xml.sax.saxutils import quoteattr

import pyspark

from penstock.config import Settings
from penstock.errors import RuntimeSetupError
from penstock.runtime.jar_lock import JarKind, configured_coordinate
from penstock.runtime.java import TRUST_STORE_PASSWORD, find_java, java_trust_store

_DEADLINE_S = 1800

_MODULE = """\
<ivy-module version="2.0">
  <info organisation="penstock" module={module}/>
  <configurations><conf name="default"/></configurations>
  <dependencies>
{dependencies}
  </dependencies>
</ivy-module>
"""

_OFFLINE_HINT = (
    "Ivy says 'not found' of a refused connection too; behind a company mirror, name it in an ivysettings.xml and set jars.ivy_settings; "
    "without network, copy the jars here and run `penstock jars import DIR`"
)


def resolve(settings: Settings, kind: JarKind, target: Path) -> None:
    """Put into `target` the jars that the configured coordinate needs at run time, unverified.

    For `delta`, only Delta's own two: what else they depend on is in Spark already, in newer versions
    that older ones must not shadow.

    Raises:
        RuntimeSetupError: Ivy could not get them; carries Ivy's reasons.
    """
    java = find_java(settings)
    with tempfile.TemporaryDirectory(prefix="penstock-ivy-") as folder:
        work = Path(folder)
        module = work / "ivy.xml"
        module.write_text(_module(kind, configured_coordinate(settings, kind)), encoding="utf-8")
        # Ivy looks into ~/.ivy2 by default: what it takes and leaves there would not be ours to know.
        command = [str(java.executable), f"-Divy.default.ivy.user.dir={work / 'user'}"]
        trust_store = java_trust_store(java)
        if trust_store is not None:
            command += [f"-Djavax.net.ssl.trustStore={trust_store}", "-Djavax.net.ssl.trustStoreType=PKCS12"]
            command += [f"-Djavax.net.ssl.trustStorePassword={TRUST_STORE_PASSWORD}"]
        command += ["-jar", str(_ivy_jar())]
        if settings.jars.ivy_settings is not None:
            command += ["-settings", str(settings.path(settings.jars.ivy_settings))]
        command += ["-ivy", str(module), "-cache", str(work / "cache"), "-confs", "default", "-types", "jar", "bundle"]
        command += ["-retrieve", f"{target}/[artifact]-[revision](-[classifier]).[ext]"]
        try:
            run = subprocess.run(command, cwd=work, capture_output=True, text=True, errors="replace", timeout=_DEADLINE_S, check=False)
        except subprocess.TimeoutExpired:
            raise RuntimeSetupError(f"resolving the {kind} jars took more than {_DEADLINE_S} s", hint=_OFFLINE_HINT) from None
    if run.returncode != 0 or not any(target.glob("*.jar")):
        raise RuntimeSetupError(f"the {kind} jars could not be resolved:\n{_reasons(run.stdout + run.stderr)}", hint=_OFFLINE_HINT)


def _module(kind: JarKind, coordinate: str) -> str:
    group, artifact, version = coordinate.split(":")
    if kind == "delta":
        lines = [_dependency(group, name, version, 'transitive="false" conf="default->master"') for name in (artifact, "delta-storage")]
    else:
        lines = [_dependency(group, artifact, version, 'conf="default->default"')]  # Maven's compile and runtime scopes
    return _MODULE.format(module=quoteattr(kind), dependencies="\n".join(lines))


def _dependency(group: str, artifact: str, version: str, scope: str) -> str:
    return f"    <dependency org={quoteattr(group)} name={quoteattr(artifact)} rev={quoteattr(version)} {scope}/>"


def _ivy_jar() -> Path:
    folder = Path(pyspark.__file__).parent / "jars"
    found = sorted(folder.glob("ivy-*.jar"))
    if not found:
        raise RuntimeSetupError(f"no ivy-*.jar in {folder}", hint="install pyspark again")
    return found[-1]


def _reasons(output: str) -> str:
    """What Ivy says went wrong, without its progress dots."""
    lines = [line.strip() for line in output.splitlines()]
    telling = [line for line in lines if re.search(r"unresolved|not found|exception|refused|error|unable|failed", line, re.IGNORECASE)]
    return "\n".join(f"  {line[:300]}" for line in (telling or lines)[-12:])
