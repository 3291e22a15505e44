"""The shape of a contract file, and the one place where promises are declared.

A key that is left out is not promised, and is not tested. Every key of the sections other than
`start` is a promise; a list or a table promises each of its items. `start` promises nothing: it
says how the trial runs the image. docs/promises.md is generated from this module: the first
paragraph below a key is what it means, others say how it is tried.
"""

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from pydantic import AfterValidator, Field, model_validator

from seatrial import backends
from seatrial.contract.declaring import Need, Needs, Section, Table, Trait

Architecture = Literal["amd64", "arm64"]
Capability = Literal["ui", "tracking", "tracing", "artifacts", "registry"]
ArtifactAccess = Literal["proxied", "direct"]
Absence = Literal[
    "shell",
    "package-manager",
    "pip",
    "setuid",
    "world-writable",
    "private-authority",
    "secret",
]
Form = Literal["server", "mlflow server", "none"]
ModelBuild = Literal["local", "virtualenv", "conda", "agnostic", "inside"]
InputForm = Literal["dataframe_split", "dataframe_records", "instances", "inputs", "csv", "params"]
ServedPath = Literal["/health", "/version"]
Port = Annotated[int, Field(ge=1, le=65535)]
Mebibytes = Annotated[int, Field(ge=1, le=512)]
Kibibytes = Annotated[int, Field(ge=1, le=1024)]
Seconds = Annotated[int, Field(ge=1, le=600)]


def _specifier(text: str) -> str:
    try:
        SpecifierSet(text)
    except InvalidSpecifier:
        raise ValueError("is no version specifier, such as '>=1.36,<2'") from None
    return text


if TYPE_CHECKING:
    Database = str
    ArtifactStore = str
    Secured = str
else:  # Literal takes a tuple of names, which type checkers do not follow
    Database = Literal[backends.DATABASES]
    ArtifactStore = Literal[backends.STORES]
    Secured = Literal[backends.TLS]

Specifier = Annotated[str, AfterValidator(_specifier)]


class StartSection(Table):
    """How the trial runs the image."""

    command: Annotated[list[str] | None, Trait.COMMAND] = None
    """What is given to the container before the server's options. Left out: `server` where the
    image's entry point is an mlflow program, else `mlflow server`."""
    port: Port = 5000
    """The port that the server is told to listen on."""
    interpreter: str = "python3"
    """The Python of the image: a name on its PATH, or a path."""
    environment: dict[str, str] = Field(default_factory=dict)
    """Variables that the image needs in order to run at all."""
    ready_within: Annotated[int, Field(gt=0)] = 90
    """Seconds to the first answer on /health, natively; MLflow's slowest default measured 32 s."""


class ImageSection(Section):
    """What can be read off the image without running it."""

    without_services: ClassVar[bool] = True

    architectures: Annotated[list[Architecture] | None, Trait.ALIKE] = None
    """The index holds the image for these, and programs of each are of its architecture."""
    labels: Annotated[list[str] | None, Trait.ALIKE] = None
    """Names of labels that are there and not empty."""
    environment: Annotated[dict[str, str] | None, Trait.ALIKE] = None
    """Variables that the image sets, with their values."""
    working_directory: str | None = None
    """The folder that commands start in."""
    exposed_ports: Annotated[list[Port] | None, Trait.ALIKE] = None
    """Ports that the image exposes over TCP."""
    entrypoint: Annotated[list[str] | None, Trait.COMMAND] = None
    """The entry point, word for word."""
    user: str | None = None
    """The user that the image names, such as `65532:65532`; never root's where it is promised."""
    unprivileged_ports: Literal[True] | None = None
    """Every exposed port, and the one it listens on without being told, is 1025 or higher."""
    healthcheck: Literal[True] | None = None
    """A health check that needs no shell: the engine calls a serving container healthy, and the
    check fails where nothing serves."""
    provenance: Literal[True] | None = None
    """Every platform of the image carries a provenance attestation in the same index."""
    compressed_megabytes: Annotated[int, Field(gt=0)] | None = None
    """The most that the layers of one platform weigh, in units of 10^6 bytes."""


class ProcessSection(Section):
    """How the container behaves towards the engine."""

    without_services: ClassVar[bool] = True

    arbitrary_user: Literal[True] | None = None
    """It runs under `--user 12345:0`."""
    stops_within: Annotated[int, Field(gt=0)] | None = None
    """Seconds from SIGTERM to the container's end, with exit code 0 or 143."""
    keeps_data: Literal[True] | None = None
    """A container that replaces a stopped one on the same stores has lost nothing."""
    confined: Annotated[list[str] | None, Trait.WHOLE] = None
    """The paths that it must write to. With tmpfs on them alone it serves under `--read-only
    --cap-drop ALL --security-opt no-new-privileges --user 12345:12345`, and most of the trial is
    run that way."""
    exits_with_server: Literal[True] | None = None
    """A server that ends without having been asked to ends the container, not with exit code 0."""
    reaps_zombies: Literal[True] | None = None
    """Orphaned processes that have ended don't stay in the process table."""


class ContentsSection(Section):
    """What the image's file system holds, in every layer."""

    without_services: ClassVar[bool] = True

    lacks: list[Absence] | None = None
    """What neither the file system nor a layer holds; docs/contracts.md says where each is searched
    for."""
    tools: Annotated[list[str] | None, Trait.ALIKE] = None
    """Commands that are there and run: each is tried with `--version`."""
    certificates: Literal[True] | None = None
    """Public certificate authorities, where the image's OpenSSL looks for them."""
    debian_packages: Annotated[str | None, Trait.FILE] = None
    """A file beside the contract that lists the Debian packages: these are there and no others."""
    python_packages: Annotated[str | None, Trait.FILE] = None
    """A requirements file beside the contract: its distributions are there and no others."""
    extensible_by: str | None = None
    """The variant in whose images whatever is added to this one can be built: the example of the
    guide is built on both, and runs."""


class EntrypointSection(Section):
    """What the entry point adds to the `mlflow` program."""

    forms: Annotated[list[Form] | None, Needs(Need.SERVICES, only=("mlflow server", "none"))] = None
    """The commands that start the server; `none` takes everything from the environment."""
    expands_variables: Annotated[Literal[True] | None, Needs(Need.SERVICES)] = None
    """`${NAME}` in an argument stands for the variable; one that isn't set is a clear error. An
    option of the server whose value vanished on the way takes it from the variable as well."""
    secret_files: Annotated[Literal[True] | None, Needs(Need.SERVICES)] = None
    """`NAME_FILE` names a file with the value of NAME, for each variable that holds a secret. A
    file that is no small text is a clear error, and so is an empty one."""
    hides_secrets: Annotated[Literal[True] | None, Needs(Need.SERVICES)] = None
    """No password is in the process list, in the health check's answer or in the log, whatever
    characters it has and however they are written in its address."""
    waits_for_database: Annotated[Literal[True] | None, Needs(Need.SERVICES)] = None
    """A database that isn't up yet is waited for, with a limit and a clear end; and so is one that
    stops answering, that another server initialises, or that dies meanwhile."""
    fails_in_one_line: Annotated[Literal[True] | None, Needs(Need.SERVICES)] = None
    """A start that fails leaves one line in the log, which says what to mend, and exit code 1.

    A URL in quotes, with a blank, with a line end of Windows; basic authentication without its key;
    a user of the database who may not connect, or not make tables; and an initialisation that
    fails. None of them is waited for."""
    replicas: Annotated[Annotated[int, Field(ge=2)] | None, Needs(Need.SERVICES)] = None
    """How many servers may start together on an empty database."""
    collects_garbage: Annotated[Literal[True] | None, Needs(Need.SERVICES)] = None
    """`gc` without options permanently deletes what was deleted on the server with the same
    variables, artifacts that went through that server included."""
    schema_upgrade: Annotated[
        list[Literal["asked", "unasked", "users"]] | None, Needs(Need.SERVICES)
    ] = None
    """A database with an older schema: `unasked` it says what to run; `asked`, which is
    MLFLOW_SCHEMA_UPGRADE=true, it upgrades. `users`: those of `--app-name basic-auth`, which MLflow
    itself upgrades at every start, are let in, and nothing else is written to their database.

    `users`: tables of the users of MLflow 3.10 in a database of their own, and those of 3.6 beside
    runs of an older MLflow, made by the image's own migrations."""


class CommandLineSection(Section):
    """The whole `mlflow` program."""

    without_services: ClassVar[bool] = True

    complete: Literal[True] | None = None
    """Every subcommand there is explains itself, and those that need no server do their work.

    `--help` of every subcommand, compared with those of the client where both have the same
    version; and real work in a container without network (confined, where the contract promises
    that): `--version`, `doctor`, `db upgrade` of a database of MLflow 1.0, `experiments`, `runs`,
    `artifacts`, `gc`, `models predict`, `generate-dockerfile` and `update-pip-requirements`."""
    serves_models: Literal[True] | None = None
    """`mlflow models serve --env-manager local` serves a model until it is told to stop.

    A model is served by `mlflow models serve --env-manager local` in a container without network:
    `/ping`, a data frame as JSON and as CSV, input that is no JSON, and SIGTERM."""
    builds_models: Annotated[
        list[ModelBuild] | None,
        Trait.ALIKE,
        Needs(Need.NATIVE),
        Needs(Need.SOCKET, only=("inside",)),
    ] = None
    """Images that serve a model, made with the image's own MLflow. By a Dockerfile that it writes
    (`mlflow models generate-dockerfile`), whose environment is made by `local`, `virtualenv` or
    `conda`, or which is `agnostic`: the model is mounted when the container starts. `inside`: by
    `mlflow models build-docker` in a container of it, which is given the engine's socket."""


class HttpSection(Section):
    """How a server of either kind treats HTTP clients, hostile ones included."""

    ignores_upgrades: Literal[True] | None = None
    """A request that offers another protocol (`Upgrade: h2c`, `Upgrade: websocket`) is answered
    over HTTP/1.1, and its body is never read as a second request.

    Six protocols that are offered in four ways, with no body, with one that is answered, and with a
    hidden request, in the same segment as the head and in the next."""
    frames_strictly: Literal[True] | None = None
    """A request whose length is ambiguous (RFC 9112, section 6) is refused and its connection
    closed: no byte of a body is read as a request.

    More than 600 spellings of what says where a request ends: lengths, codings, chunks, trailers,
    first lines, methods, hosts, versions, segments. Each is followed by a plain request, and most
    hide another one in the body. That one must never be answered, and the plain one gets its own
    answer or none. What RFC 9112 lets a server decide may be answered or refused; what it calls an
    error must be refused and the connection closed; what is correct must be answered."""
    limits_heads: Kibibytes | None = None
    """The limit of a request's head in KiB. A head twice as large gets a 4xx, or its connection is
    closed; one half as large is answered.

    Heads of half, twice and 32 times the limit, made large by a field, by many, by the target, the
    method, the version; and parts of requests without an end, chunk extensions and trailers among
    them, of which a server may not take 32 MiB."""
    ends_slow_heads: Seconds | None = None
    """Seconds after which a connection whose request head is incomplete is closed.

    Heads that stop at each place, or trickle in by single bytes, also after a whole request; each
    is closed within the limit and 5 s. One that takes half the limit is answered."""
    keeps_idle_connections: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """Idle connections that may be open while requests and health checks are answered as usual,
    with the soft limit of open files at 1024.

    So many connections to the container's own address, where this host reaches it (the engine's
    proxy for published ports has a limit of its own); requests and health checks are answered
    meanwhile, and those that were opened last can still be used. This process needs as many open
    files (`ulimit -Hn`)."""
    answers_head_and_options: Literal[True] | None = None
    """HEAD is answered as GET is, without the body; OPTIONS with the methods of the path.

    HEAD has the status and the length of GET, and no byte more; `Allow` names the methods of a
    path."""
    hides_interfaces: Literal[True] | None = None
    """Descriptions of the interface that frameworks add (/docs, /redoc, /openapi.json) are not
    served.

    Twenty paths, encoded and doubled slashes among them, by GET, HEAD and POST."""
    bounds_error_logs: Literal[True] | None = None
    """A thousand malformed requests leave a bounded number of lines in the log.

    A thousand requests that are none: TLS, HTTP/2, other protocols and malformed framing; and 300
    offers of h2c, which may leave one line each in the access log."""


class ServerSection(Section):
    """What the MLflow server does."""

    version_label: Annotated[Literal[True] | None, Trait.WITHOUT_SERVICES] = None
    """GET /version answers what the label org.opencontainers.image.version says."""
    capabilities: list[Capability] | None = None
    """Parts of MLflow that work: what a client writes comes back as it was."""
    databases: Annotated[
        list[Database] | None, Needs(Need.SERVICES, only=backends.in_services(backends.DATABASES))
    ] = None
    """Databases that it keeps its runs in.

    `mysql`: a server on `mysql+pymysql://`: runs and metrics read back and looked up behind it, and
    again in a container that replaces it. The database is MariaDB, or what `MYSQL_IMAGE` names; it
    starts only for this."""
    artifact_stores: Annotated[
        list[ArtifactStore] | None,
        Needs(Need.SERVICES, only=backends.in_services(backends.STORES)),
    ] = None
    """Where it keeps artifacts: objects in a bucket, or files in a volume."""
    artifact_access: Annotated[
        list[ArtifactAccess] | None, Needs(Need.SERVICES, only=("direct",))
    ] = None
    """`proxied`: clients send artifacts through the server. `direct`: straight to the store."""
    multipart: Annotated[list[ArtifactAccess] | None, Needs(Need.SERVICES)] = None
    """The ways in which a large artifact goes up in parts."""
    refuses_path_traversal: Literal[True] | None = None
    """An artifact's path that leads out of its run gives nothing away and changes nothing."""
    checks_host: Annotated[Literal[True] | None, Trait.WITHOUT_SERVICES] = None
    """A Host header that is not allowed is refused, one that is allowed is served."""
    reports_faults: Annotated[
        list[Literal["database", "bucket"]] | None, Needs(Need.SERVICES, only=("bucket",))
    ] = None
    """What, when it is configured wrongly, gives a failure that names the cause."""
    tls: Annotated[list[Secured] | None, Needs(Need.SERVICES)] = None
    """What is reached over https with a certificate authority given by the environment.

    `s3`: a second MinIO, with a certificate of an authority made for the trial. With
    `AWS_CA_BUNDLE` or `REQUESTS_CA_BUNDLE` (what boto3 heeds; it does not heed `SSL_CERT_FILE`)
    naming that authority in a read-only file, an artifact goes there and back; without, the same
    fails."""
    authentication: list[Literal["basic"]] | None = None
    """Ways in which it asks who is there: `basic` is MLflow's own `--app-name basic-auth`.

    `basic`: users in PostgreSQL where it is promised: 401 without a password or with a wrong one,
    403 for what belongs to others, `/health` open, the real client by `MLFLOW_TRACKING_USERNAME`
    and `_PASSWORD`, passwords hashed and in no log."""
    metrics: Annotated[Literal[True] | None, Trait.WITHOUT_SERVICES] = None
    """Prometheus reads what it serves on /metrics.

    `/metrics`, read with Prometheus' own parser: its families, and counters that grow by exactly
    the requests sent, whichever process answered."""
    documented_variables: Annotated[Literal[True] | None, Needs(Need.SERVICES)] = None
    """MLflow's documented variables mean what they mean for MLflow, each with its effect.

    A server that gets everything from variables: its stores, address, processes, path, headers, and
    a pool of connections of each class that takes no size; and one that only passes artifacts
    on, with options of uvicorn."""
    ignores_service_links: Annotated[Literal[True] | None, Trait.WITHOUT_SERVICES] = None
    """What Kubernetes sets for a service that is called `mlflow` (`MLFLOW_PORT=tcp://...`) changes
    nothing.

    A server whose port is the image's default, with such variables for three services."""
    survives_frozen_database: Annotated[Seconds | None, Needs(Need.SERVICES)] = None
    """Seconds within which requests fail while the database does not answer, and within which the
    server serves again once it does.

    A PostgreSQL of its own, with either driver, is paused under a server that has used it: 30
    requests at once fail with 5xx within that many seconds, `/health` is answered meanwhile, and
    requests are served again within that many once it goes on."""
    recovers_from_hangs: Annotated[Seconds | None, Trait.WITHOUT_SERVICES] = None
    """Seconds within which a worker process that is stopped (SIGSTOP) is replaced.

    Every process that serves is stopped (SIGSTOP), of several and of a single one: within that many
    seconds the server is healthy and none of them is stopped any more."""
    quiet: Annotated[Literal[True] | None, Trait.WITHOUT_SERVICES] = None
    """Nothing that it does in the trial leaves a traceback in its log.

    Ordinary work and users' mistakes on a server of its own, from its start to its end; then the
    whole log is read."""


class ServingSection(Section):
    """What the server of a model does, by MLflow's scoring protocol."""

    inputs: list[InputForm] | None = None
    """Forms of input that are answered with what the model predicts in Python, to the last bit on
    the architecture that the model was made on."""
    valid_json: Literal[True] | None = None
    """Predictions that JSON has no number for (NaN, infinities) are answered with null, or refused
    in one line: the answer is JSON by RFC 8259, which any client can parse.

    Arrays, Series, DataFrames, lists, dictionaries and nested values with a NaN and both
    infinities; other numbers beside them, and texts that hold these words, come back as they
    were."""
    refuses_bad_input: Literal[True] | None = None
    """What is no input of the model gets a 4xx, and the next request its answer."""
    refuses_bad_bytes: Literal[True] | None = None
    """Bytes that are no text get a 4xx as well; MLflow's own server answered them with 500."""
    names_content_types: Literal[True] | None = None
    """The answer to a Content-Type that is not taken, or to none, names those that are."""
    paths: list[ServedPath] | None = None
    """What is answered beside /ping and /invocations: /health as /ping is, and on /version that of
    the MLflow that is installed."""
    ready_when_loaded: Literal[True] | None = None
    """/ping says 200 once a request would be answered, and not before."""
    ignores_service_links: Literal[True] | None = None
    """Kubernetes' service links, such as `MLFLOW_MODELS_PORT=tcp://10.0.0.1:80` for a service that
    is called `mlflow-models`, change neither where the server listens nor its health check."""
    listens_on_ipv6: Literal[True] | None = None
    """/ping is answered by IPv6 beside IPv4; with `MLFLOW_MODELS_HOST=::` by IPv6 alone, and the
    health check asks there.

    Asked inside the container, on its loopback: its network needs no IPv6."""
    works_confined: Literal[True] | None = None
    """Models that trace, log to files, keep caches or ask for their home and user answer, run as
    `process.confined` says; `check` loads them so too.

    Files in the working folder and in the home, a figure of matplotlib's, a function under
    `mlflow.trace` with no tracking server set, and `getpass.getuser()`: at a prediction, and
    while the model is loaded."""
    finishes_requests: Literal[True] | None = None
    """Told to stop, it answers the requests that it has taken, and ends with exit code 0."""
    survives_workers: Literal[True] | None = None
    """A worker that is killed is replaced, and no request fails."""
    reports_unloadable: Literal[True] | None = None
    """A model that can't be loaded ends the container with an exit code other than 0, and the log
    says why in one line."""
    refuses_unmet: Literal[True] | None = None
    """A mounted model whose requirements the image doesn't meet ends the container as one does that
    can't be loaded; nothing is installed for it."""
    limits_requests: Mebibytes | None = None
    """The limit in MiB. A body 1.25 times as large gets 413, with or without Content-Length; one
    0.75 times as large is answered."""
    keeps_input_private: Literal[True] | None = None
    """No answer to a bad request and no line of the log repeats the input."""
    answers_at_once: Annotated[Literal[True] | None, Needs(Need.NATIVE)] = None
    """Small answers on a connection that is kept open are not held back by TCP (Nagle)."""
    metrics: Literal[True] | None = None
    """Prometheus reads requests and their durations from /metrics."""
    sheds_load: Literal[True] | None = None
    """Requests beyond the queue's limit get 503 with Retry-After at once; accepted ones, and health
    checks, are answered as usual."""
    recovers_from_hangs: Seconds | None = None
    """Seconds, after the time limit of a request, within which a worker whose predictions hang, or
    that is stopped (SIGSTOP), is replaced; /ping does not say 200 while no prediction would be
    answered."""
    survives_memory: Literal[True] | None = None
    """A request whose prediction exhausts a worker's memory gets an error and ends no other worker;
    others are answered."""
    limits_unpacking: Literal[True] | None = None
    """A body that unpacks to gigabytes (Parquet, or a sparse table in JSON or CSV) is refused
    before it is unpacked."""
    bounds_slow_readers: Literal[True] | None = None
    """Clients that do not read large answers cost the server a bounded amount of memory."""
    identifies_model: Literal[True] | None = None
    """The labels of an image that holds a model say which: address, run, name and version in the
    registry, digest of the signature."""
    agrees_across_architectures: Annotated[Literal[True] | None, Needs(Need.NATIVE)] = None
    """One index holds the image for both, with provenance, and both predict the same."""
    keeps_indexes_private: Annotated[Literal[True] | None, Needs(Need.NATIVE)] = None
    """What only a private package index has is installed; neither its address nor its password is
    in the image."""
    follows_guide: Annotated[Literal[True] | None, Needs(Need.NATIVE)] = None
    """docs/serving.md leads from training to an answer."""


class PythonSection(Section):
    """The Python environment inside the image."""

    without_services: ClassVar[bool] = True

    consistent: Literal[True] | None = None
    """`pip check` finds nothing, and no distribution is there twice."""
    omits: Annotated[list[str] | None, Trait.ALIKE] = None
    """Distributions that others declare as needed and that are left out on purpose: a pure server
    never imports them. `pip check` may name these, and no others."""
    imports: Annotated[list[str] | None, Trait.ALIKE] = None
    """Modules that can be imported."""
    distributions: Annotated[dict[str, Specifier] | None, Trait.ALIKE] = None
    """Installed distributions, and the versions they may have; '' for any."""
    pins: Literal[True] | None = None
    """Versions that the build was asked for (labels io.seatrial.pin.*) are the installed ones."""


class Contract(Table):
    """Everything that one image promises."""

    description: Annotated[str, Field(min_length=1)]
    start: StartSection = StartSection()
    image: ImageSection = ImageSection()
    process: ProcessSection = ProcessSection()
    contents: ContentsSection = ContentsSection()
    entrypoint: EntrypointSection = EntrypointSection()
    command_line: CommandLineSection = CommandLineSection()
    http: HttpSection = HttpSection()
    server: ServerSection = ServerSection()
    serving: ServingSection = ServingSection()
    python: PythonSection = PythonSection()

    @property
    def serves_models(self) -> bool:
        """Tell whether the image serves a model, rather than being MLflow's own server."""
        return self.serving != ServingSection()

    @model_validator(mode="after")
    def _hold_together(self) -> Self:
        for contradiction in self._contradictions():
            raise ValueError(contradiction)
        return self

    def _contradictions(self) -> list[str]:
        found: list[str] = []
        server = self.server
        if self.serves_models and server != ServerSection():
            found.append("serving and server are given: an image is the one or the other")
        if self.serves_models and self.entrypoint != EntrypointSection():
            found.append("serving and entrypoint are given: that is tried on MLflow's own server")
        if self.serves_models and self.process.keeps_data:
            found.append("process.keeps_data is given with serving: a model's server keeps none")
        capabilities = server.capabilities or []
        stores = server.artifact_stores or []
        access = server.artifact_access or []
        if self.image.exposed_ports is not None and self.start.port not in self.image.exposed_ports:
            found.append(
                f"start.port is {self.start.port}, but image.exposed_ports lists"
                f" {self.image.exposed_ports}"
            )
        if stores and "artifacts" not in capabilities:
            found.append(
                "server.artifact_stores is given, but server.capabilities has no 'artifacts'"
            )
        buckets = set(stores) & set(backends.BUCKETS)
        no_bucket = f"server.artifact_stores has no {' or '.join(map(repr, backends.BUCKETS))}"
        if "direct" in access and not buckets:
            found.append(f"server.artifact_access has 'direct', but {no_bucket}")
        found += [
            f"server.multipart has '{access_path}', but server.artifact_access has not"
            for access_path in server.multipart or []
            if access_path not in access
        ]
        if "artifacts" in capabilities and not stores:
            found.append("server.capabilities has 'artifacts', but server.artifact_stores is empty")
        if "registry" in capabilities and "tracking" not in capabilities:
            found.append("server.capabilities has 'registry', which needs 'tracking'")
        if "tracking" in capabilities and not server.databases:
            found.append("server.capabilities has 'tracking', but server.databases is empty")
        if "bucket" in (server.reports_faults or []) and not buckets:
            found.append(f"server.reports_faults has 'bucket', but {no_bucket}")
        return found
