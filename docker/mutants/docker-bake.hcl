# The only list of mutants: images of the catalogue with one fault each, that breaks the promise which
# the label io.seatrial.mutant.promise names. docs/mutants.md says how to add one.

variable "REGISTRY" {
  default = "seatrial"
}
variable "AUTHORITIES" {
  default = ""
}
variable "PROXIES" {
  default = ""
}

function "tags" {
  params = [name]
  result = ["${REGISTRY}/mutant-${name}:latest"]
}

variable "ALL_INPUTS" {
  default = join("; ", [
    "serving.inputs[dataframe_split]", "serving.inputs[dataframe_records]",
    "serving.inputs[instances]", "serving.inputs[inputs]", "serving.inputs[csv]",
    "serving.inputs[params]",
  ])
}

variable "SERVED" {
  default = join("; ", [
    "image.healthcheck", "image.user", "process.exits_with_server", ALL_INPUTS,
    "serving.refuses_bad_input", "serving.refuses_bad_bytes", "serving.paths[/health]", "serving.paths[/version]",
    "serving.ready_when_loaded", "serving.refuses_unmet",
    "serving.finishes_requests", "serving.survives_workers", "serving.reports_unloadable",
    "serving.limits_requests", "serving.keeps_input_private", "serving.answers_at_once",
    "serving.metrics", "serving.sheds_load", "serving.recovers_from_hangs",
    "serving.survives_memory", "serving.limits_unpacking", "serving.bounds_slow_readers",
  ])
}

# `also` names promises that can't be told apart from the broken one, with "; " between them.
function "labels" {
  params = [name, variant, promise, also]
  result = {
    for key, value in {
      "io.seatrial.image"          = "mutant-${name}"
      "io.seatrial.mutant.variant" = variant
      "io.seatrial.mutant.promise" = promise
      "io.seatrial.mutant.also"    = also
    } : key => value if value != ""
  }
}

group "mutants" {
  targets = ["patched", "staged", "has-no-provenance", "is-amd64-everywhere", "has-a-secret-in-a-build-argument"]
}

target "mutant" {
  context = "docker/mutants"
  attest  = ["type=provenance,mode=max"]
  output  = ["type=docker,compression=zstd"]
}

# With a module changed as patches/NAME.toml says.
target "patched" {
  inherits = ["mutant"]
  name     = mutant.name
  matrix = {
    mutant = [
      # How the container behaves.
      { name = "ignores-sigterm", breaks = "process.stops_within" },
      { name = "forgets-runs", breaks = "process.keeps_data" },
      { name = "writes-beside-its-data", breaks = "process.confined" },
      { name = "hides-crash", breaks = "process.exits_with_server" },
      { name = "keeps-zombies", breaks = "process.reaps_zombies" },

      # The entry point.
      # Whatever the guide expands stands in commands that begin with the doubled name.
      { name = "refuses-doubled-name", breaks = "entrypoint.forms[mlflow server]", also = "entrypoint.expands_variables" },
      { name = "does-nothing-untold", breaks = "entrypoint.forms[none]" },
      { name = "leaves-variables", breaks = "entrypoint.expands_variables" },
      { name = "takes-unset-for-empty", breaks = "entrypoint.expands_variables" },
      { name = "ignores-secret-files", breaks = "entrypoint.secret_files" },
      { name = "keeps-line-breaks", breaks = "entrypoint.secret_files" },
      { name = "reads-secret-files-of-any-size", breaks = "entrypoint.secret_files" },
      { name = "takes-zero-bytes", breaks = "entrypoint.secret_files" },
      { name = "takes-an-empty-secret", breaks = "entrypoint.secret_files" },
      { name = "shows-password-in-processes", breaks = "entrypoint.hides_secrets" },
      { name = "shows-password-in-log", breaks = "entrypoint.hides_secrets" },
      { name = "masks-by-form-alone", breaks = "entrypoint.hides_secrets" },
      { name = "gives-up-at-once", breaks = "entrypoint.waits_for_database" },
      { name = "waits-for-its-turn-for-ever", breaks = "entrypoint.waits_for_database" },
      { name = "fails-badly-without-its-database", breaks = "entrypoint.waits_for_database" },
      { name = "initialises-unlocked", breaks = "entrypoint.replicas" },
      { name = "upgrades-unasked", breaks = "entrypoint.schema_upgrade[unasked]" },
      { name = "never-upgrades", breaks = "entrypoint.schema_upgrade[asked]" },
      { name = "refuses-plugins", breaks = "contents.extensible_by" },

      # The command line.
      { name = "has-no-doctor", breaks = "command_line.complete" },
      { name = "lacks-a-subcommand", breaks = "command_line.complete" },
      { name = "wants-a-shell-for-models", breaks = "command_line.serves_models" },
      { name = "mixes-up-environments", breaks = "command_line.builds_models[local]" },

      # The server.
      { name = "lies-about-its-version", breaks = "server.version_label" },
      { name = "rounds-metrics", breaks = "server.capabilities[tracking]" },
      { name = "loses-parents-of-spans", breaks = "server.capabilities[tracing]" },
      { name = "truncates-artifacts", breaks = "server.capabilities[artifacts]" },
      { name = "sticks-to-first-alias", breaks = "server.capabilities[registry]" },
      { name = "has-a-broken-psycopg", breaks = "server.databases[postgresql]" },
      { name = "has-a-broken-pymysql", breaks = "server.databases[mysql]" },
      { name = "keeps-sqlite-elsewhere", breaks = "server.databases[sqlite]" },
      # What is tried on a server before S3.
      { name = "has-no-s3", breaks = "server.artifact_stores[s3]", also = "server.multipart[proxied]; server.reports_faults[bucket]; server.tls[s3]; entrypoint.forms[none]; entrypoint.secret_files" },
      { name = "keeps-artifacts-elsewhere", breaks = "server.artifact_stores[file]" },
      { name = "keeps-deleted-artifacts", breaks = "server.artifact_access[proxied]" },
      { name = "passes-artifacts-on", breaks = "server.artifact_access[direct]" },
      { name = "uploads-in-one-part", breaks = "server.multipart[proxied]" },
      # Parts are the client's doing, unless the server comes between it and the store.
      { name = "passes-artifacts-on-in-one-part", breaks = "server.multipart[direct]", also = "server.artifact_access[direct]" },
      { name = "leaves-paths-unchecked", breaks = "server.refuses_path_traversal" },
      { name = "takes-any-subdomain", breaks = "server.checks_host" },
      { name = "takes-sqlite-instead", breaks = "server.reports_faults[database]" },
      { name = "swallows-missing-bucket", breaks = "server.reports_faults[bucket]" },
      { name = "trusts-public-authorities-only", breaks = "server.tls[s3]" },
      { name = "takes-any-password", breaks = "server.authentication[basic]" },
      { name = "counts-nothing", breaks = "server.metrics" },
      { name = "logs-tracebacks", breaks = "server.quiet" },
      { name = "waits-for-its-database-for-ever", breaks = "server.survives_frozen_database" },
      { name = "gives-its-database-up", breaks = "server.survives_frozen_database" },
      { name = "leaves-stopped-workers", breaks = "server.recovers_from_hangs" },
      { name = "leaves-a-stopped-server", breaks = "server.recovers_from_hangs" },

      # What clients may do to it.
      { name = "refuses-upgrades", breaks = "http.ignores_upgrades" },
      { name = "takes-codings-beside-lengths", breaks = "http.frames_strictly" },
      { name = "takes-heads-of-any-size", breaks = "http.limits_heads" },
      { name = "waits-for-trickling-heads", breaks = "http.ends_slow_heads" },
      { name = "keeps-the-soft-limit-of-files", breaks = "http.keeps_idle_connections" },
      { name = "logs-each-malformed-request", breaks = "http.bounds_error_logs" },

      # The server of models: predictions.
      { name = "reads-split-frames-in-single-precision", breaks = "serving.inputs[dataframe_split]", of = "model-server" },
      { name = "reads-integers-as-doubles", breaks = "serving.inputs[dataframe_split]", of = "model-server" },
      { name = "sorts-records", breaks = "serving.inputs[dataframe_records]", of = "model-server" },
      { name = "rounds-instances", breaks = "serving.inputs[instances]", of = "model-server" },
      { name = "answers-a-thousand-rows", breaks = "serving.inputs[dataframe_records]", of = "model-server" },
      { name = "takes-columns-by-position", breaks = "serving.inputs[csv]", of = "model-server" },
      { name = "reads-text-as-latin-1", breaks = "serving.inputs[csv]", of = "model-server" },
      { name = "answers-four-rows", breaks = "serving.inputs[inputs]", of = "model-server" },
      { name = "reads-csv-nearly-right", breaks = "serving.inputs[csv]", of = "model-server" },
      { name = "ignores-parameters", breaks = "serving.inputs[params]", of = "model-server" },
      { name = "remembers-parameters", breaks = "serving.inputs[params]", of = "model-server" },
      { name = "rounds-predictions", breaks = "serving.inputs[params]", of = "model-server" },
      { name = "rounds-arrays", breaks = "serving.inputs[inputs]", also = ALL_INPUTS, of = "model-server" },
      { name = "refuses-a-megabyte", breaks = "serving.inputs[dataframe_split]", of = "model-server" },
      { name = "mixes-up-answers", breaks = "serving.inputs[params]", of = "model-server" },

      # Its input.
      { name = "fills-missing-columns", breaks = "serving.refuses_bad_input", of = "model-server" },
      { name = "blames-itself-for-bytes", breaks = "serving.refuses_bad_bytes", of = "model-server" },
      { name = "is-stuck-after-bad-input", breaks = "serving.refuses_bad_input", of = "model-server" },
      { name = "takes-any-size", breaks = "serving.limits_requests", of = "model-server" },
      { name = "takes-half-of-what-it-says", breaks = "serving.limits_requests", of = "model-server" },
      { name = "trusts-the-length", breaks = "serving.limits_requests", of = "model-server" },
      { name = "cuts-long-uploads-off", breaks = "serving.limits_requests", of = "model-server" },
      { name = "echoes-input", breaks = "serving.keeps_input_private", of = "model-server" },
      { name = "quotes-bad-csv", breaks = "serving.keeps_input_private", of = "model-server" },
      { name = "logs-stack-traces", breaks = "serving.keeps_input_private", of = "model-server" },
      { name = "logs-warnings-about-input", breaks = "serving.keeps_input_private", of = "model-server" },
      { name = "logs-what-it-answers", breaks = "serving.keeps_input_private", of = "model-server" },
      { name = "repeats-input-in-a-header", breaks = "serving.keeps_input_private", of = "model-server" },
      { name = "logs-queries", breaks = "serving.keeps_input_private", of = "model-server" },

      # What clients may do to it.
      { name = "reads-requests-behind-upgrades", breaks = "http.ignores_upgrades", of = "model-server" },
      { name = "reads-chunks-without-an-end", breaks = "http.frames_strictly", of = "model-server" },
      { name = "counts-whole-fields-only", breaks = "http.limits_heads", of = "model-server" },
      { name = "refuses-half-of-its-heads", breaks = "http.limits_heads", of = "model-server" },
      { name = "is-patient-with-trickling-heads", breaks = "http.ends_slow_heads", of = "model-server" },
      { name = "serves-a-thousand-connections", breaks = "http.keeps_idle_connections", of = "model-server" },
      { name = "knows-get-and-post-alone", breaks = "http.answers_head_and_options", of = "model-server" },
      { name = "describes-its-interface", breaks = "http.hides_interfaces", of = "model-server" },
      { name = "tells-of-each-refusal", breaks = "http.bounds_error_logs", of = "model-server" },

      # Its life, from the start to the end.
      { name = "says-another-mlflow", breaks = "serving.paths[/version]", of = "model-server" },
      { name = "is-in-health-at-once", breaks = "serving.paths[/health]", of = "model-server" },
      { name = "serves-what-it-only-nearly-can", breaks = "serving.refuses_unmet", of = "model-server" },
      { name = "pings-before-the-model-is-ready", breaks = "serving.ready_when_loaded", of = "model-server", also = "image.healthcheck" },
      { name = "counts-on-workers-that-load", breaks = "serving.ready_when_loaded", of = "model-server", also = "image.healthcheck" },
      { name = "loads-a-broken-model-for-ever", breaks = "serving.reports_unloadable", of = "model-server" },
      { name = "ends-well-without-a-model", breaks = "serving.reports_unloadable", of = "model-server" },
      { name = "hides-why-nothing-loads", breaks = "serving.reports_unloadable", of = "model-server" },
      { name = "shows-a-traceback-of-the-model", breaks = "serving.reports_unloadable", of = "model-server" },
      { name = "drops-requests-on-sigterm", breaks = "serving.finishes_requests", of = "model-server" },
      { name = "drops-requests-after-its-doors-close", breaks = "serving.finishes_requests", of = "model-server" },
      { name = "turns-away-those-that-wait", breaks = "serving.finishes_requests", of = "model-server" },
      { name = "mixes-up-those-that-wait", breaks = "serving.finishes_requests", of = "model-server" },
      { name = "ends-with-143", breaks = "serving.finishes_requests", of = "model-server" },
      { name = "tries-once", breaks = "serving.survives_workers", of = "model-server" },
      { name = "gives-neighbours-up", breaks = "serving.survives_workers", of = "model-server" },
      { name = "is-ready-for-ever", breaks = "serving.survives_workers", of = "model-server" },
      { name = "replaces-no-worker", breaks = "serving.survives_workers", of = "model-server" },
      { name = "gives-up-after-three-deaths", breaks = "serving.survives_workers", of = "model-server" },
      { name = "keeps-hung-workers", breaks = "serving.recovers_from_hangs", of = "model-server" },
      { name = "keeps-stopped-workers", breaks = "serving.recovers_from_hangs", of = "model-server" },
      { name = "ends-what-computes", breaks = "serving.recovers_from_hangs", of = "model-server" },
      { name = "gives-greedy-requests-on", breaks = "serving.survives_memory", of = "model-server" },
      { name = "unpacks-anything", breaks = "serving.limits_unpacking", of = "model-server" },
      { name = "unpacks-any-text", breaks = "serving.limits_unpacking", of = "model-server" },
      { name = "keeps-unread-answers", breaks = "serving.bounds_slow_readers", of = "model-server" },
      { name = "queues-without-end", breaks = "serving.sheds_load", of = "model-server" },
      { name = "turns-bursts-away", breaks = "serving.sheds_load", of = "model-server" },
      { name = "exits-0-on-crash", breaks = "process.exits_with_server", of = "model-server" },
      { name = "outlives-its-front", breaks = "process.exits_with_server", of = "model-server" },
      { name = "writes-beside-its-model", breaks = "process.confined", of = "model-server", also = SERVED },
      { name = "knows-its-own-users-only", breaks = "process.confined", of = "model-server", also = SERVED },
      { name = "is-healthy-without-a-model", breaks = "image.healthcheck", of = "model-server" },
      { name = "asks-another-port-for-health", breaks = "image.healthcheck", of = "model-server" },

      # What it does beside predictions.
      { name = "holds-small-answers-back", breaks = "serving.answers_at_once", of = "model-server" },
      { name = "counts-no-predictions", breaks = "serving.metrics", of = "model-server" },
      { name = "counts-predictions-twice", breaks = "serving.metrics", of = "model-server" },
      { name = "measures-no-durations", breaks = "serving.metrics", of = "model-server" },
      { name = "counts-failures-as-answers", breaks = "serving.metrics", of = "model-server" },
      { name = "measures-milliseconds", breaks = "serving.metrics", of = "model-server" },
    ]
  }
  dockerfile = "patched.Dockerfile"
  contexts   = { unbroken = "docker-image://${REGISTRY}/${try(mutant.of, "hardened")}:latest" }
  args       = { PATCH = mutant.name }
  tags       = tags(mutant.name)
  labels     = labels(mutant.name, try(mutant.of, "hardened"), mutant.breaks, try(mutant.also, ""))
}

# Those that have a stage of their own, under their name.
target "staged" {
  inherits = ["mutant"]
  name     = mutant.name
  matrix = {
    mutant = [
      # What the image says about itself.
      { name = "says-no-creation", breaks = "image.labels[org.opencontainers.image.created]" },
      # The label is also the version that the build was asked for.
      { name = "lies-in-its-label", breaks = "server.version_label", also = "python.pins" },
      { name = "does-not-heed-a-pin", breaks = "python.pins" },
      { name = "buffers-output", breaks = "image.environment[PYTHONUNBUFFERED]", of = "custom" },
      { name = "works-elsewhere", breaks = "image.working_directory" },
      { name = "exposes-nothing", breaks = "image.exposed_ports[5000]" },
      { name = "starts-otherwise", breaks = "image.entrypoint" },
      { name = "runs-as-root", breaks = "image.user" },
      { name = "serves-models-as-root", breaks = "image.user", of = "model-server" },
      { name = "exposes-port-80", breaks = "image.unprivileged_ports" },
      { name = "listens-on-port-80", breaks = "image.unprivileged_ports" },
      { name = "has-no-health-check", breaks = "image.healthcheck" },
      { name = "checks-health-in-a-shell", breaks = "image.healthcheck" },
      { name = "is-always-healthy", breaks = "image.healthcheck" },
      { name = "is-never-healthy", breaks = "image.healthcheck" },
      { name = "weighs-too-much", breaks = "image.compressed_megabytes" },

      # What is inside.
      { name = "has-a-shell", breaks = "contents.lacks[shell]" },
      { name = "has-a-renamed-shell", breaks = "contents.lacks[shell]" },
      { name = "has-a-renamed-busybox", breaks = "contents.lacks[shell]" },
      { name = "has-a-link-to-a-shell", breaks = "contents.lacks[shell]" },
      { name = "has-a-script-for-a-shell", breaks = "contents.lacks[shell]" },
      { name = "has-a-renamed-apt", breaks = "contents.lacks[package-manager]" },
      { name = "has-a-renamed-dpkg", breaks = "contents.lacks[package-manager]" },
      { name = "has-pip", breaks = "contents.lacks[pip]" },
      { name = "has-a-zipped-pip", breaks = "contents.lacks[pip]" },
      { name = "has-a-setuid-file", breaks = "contents.lacks[setuid]" },
      { name = "has-a-file-with-a-capability", breaks = "contents.lacks[setuid]" },
      { name = "has-a-folder-for-everybody", breaks = "contents.lacks[world-writable]" },
      { name = "trusts-a-private-authority", breaks = "contents.lacks[private-authority]" },
      { name = "has-a-deleted-secret", breaks = "contents.lacks[secret]" },
      { name = "has-a-password-in-a-variable", breaks = "contents.lacks[secret]" },
      { name = "trusts-nobody", breaks = "contents.certificates" },
      { name = "looks-for-authorities-elsewhere", breaks = "contents.certificates" },
      { name = "has-another-debian-package", breaks = "contents.debian_packages" },
      { name = "has-another-distribution", breaks = "contents.python_packages" },
      { name = "has-another-version", breaks = "contents.python_packages" },
      { name = "has-no-git", breaks = "contents.tools[git]", of = "hardened-dev" },
      { name = "lacks-a-script", breaks = "server.capabilities[ui]" },

      # The Python environment.
      { name = "has-an-unmet-requirement", breaks = "python.consistent" },
      { name = "has-a-distribution-twice", breaks = "python.consistent" },
      { name = "has-a-broken-module", breaks = "python.imports[azure.identity]" },
      { name = "lies-about-psycopg", breaks = "python.distributions[psycopg]", of = "custom" },
      # What was left out is in no lock.
      { name = "has-what-was-left-out", breaks = "python.omits[huey]", of = "slim", also = "contents.python_packages" },

      # How it runs.
      { name = "is-for-its-own-users", breaks = "process.arbitrary_user" },
      { name = "can-not-write-its-data", breaks = "entrypoint.forms[server]" },
      { name = "trusts-any-authority", breaks = "server.tls[s3]" },
      { name = "builds-no-models", breaks = "command_line.builds_models[inside]", of = "hardened-dev" },
    ]
  }
  # All of them are looked up, whichever the stage is made from.
  contexts = {
    custom       = "docker-image://${REGISTRY}/custom:latest"
    hardened     = "docker-image://${REGISTRY}/hardened:latest"
    hardened-dev = "docker-image://${REGISTRY}/hardened-dev:latest"
    model-server = "docker-image://${REGISTRY}/model-server:latest"
    slim         = "docker-image://${REGISTRY}/slim:latest"
    tools        = "docker/bases/tools"
  }
  secret = concat(
    AUTHORITIES == "" ? [] : ["id=ca,src=${AUTHORITIES}"],
    PROXIES == "" ? [] : ["id=proxies,src=${PROXIES}"],
  )
  target = mutant.name
  tags   = tags(mutant.name)
  labels = labels(mutant.name, try(mutant.of, "hardened"), mutant.breaks, try(mutant.also, ""))
}

# --- Faults of the build, not of what is built. ---

target "has-no-provenance" {
  inherits          = ["mutant"]
  dockerfile-inline = "FROM hardened"
  contexts          = { hardened = "docker-image://${REGISTRY}/hardened:latest" }
  tags              = tags("has-no-provenance")
  labels            = labels("has-no-provenance", "hardened", "image.provenance", "")
  attest            = ["type=provenance,disabled=true"]
}

# The same binaries on either platform.
target "is-amd64-everywhere" {
  inherits          = ["mutant"]
  dockerfile-inline = "FROM --platform=linux/amd64 hardened"
  contexts          = { hardened = "docker-image://${REGISTRY}/hardened:latest" }
  platforms         = ["linux/amd64", "linux/arm64"]
  tags              = tags("is-amd64-everywhere")
  labels            = labels("is-amd64-everywhere", "hardened", "image.architectures[arm64]", "")
}

target "has-a-secret-in-a-build-argument" {
  inherits          = ["mutant"]
  dockerfile-inline = "FROM hardened\nARG INDEX_TOKEN\nRUN [\"/opt/mlflow/bin/python\", \"-c\", \"pass\"]\n"
  contexts          = { hardened = "docker-image://${REGISTRY}/hardened:latest" }
  args              = { INDEX_TOKEN = "hunter22-hunter22" }
  tags              = tags("has-a-secret-in-a-build-argument")
  labels            = labels("has-a-secret-in-a-build-argument", "hardened", "contents.lacks[secret]", "")
}
