# The only list of images: what exists, on which platforms, from which parts, under which tags and
# labels. Python reads it with `docker buildx bake --print` and fills in the variables of the second
# part, so everything runs from the repository's folder.

# --- What a person may set (`invoke build --arg NAME=VALUE`): listed in the target `arguments`. ---

variable "REGISTRY" {
  default = "seatrial"
}
variable "MLFLOW_VERSION" {
  default = "3.17.2"
}
# Empty: the newest that fits, as locked in docker/custom/requirements.txt.
variable "BOTO3_VERSION" {
  default = ""
}
variable "PSYCOPG2_VERSION" {
  default = ""
}
# A reference that takes the place of the service image that is built here.
variable "POSTGRES_IMAGE" {
  default = ""
}
variable "MINIO_IMAGE" {
  default = ""
}
variable "MYSQL_IMAGE" {
  default = ""
}
# Of the layers: zstd (Docker 23, containerd 1.5 and newer) costs a third of gzip's time and is smaller.
variable "COMPRESSION" {
  default = "zstd"
}

# --- What the build fills in. ---

# The builder's own platform: stages that run commands run there, services are made for it alone.
variable "BUILD_PLATFORM" {
  default = BAKE_LOCAL_PLATFORM
}
# A registry's Debian or official MLflow image by digest; empty where no registry answers, which
# means the bootstrapped Debian and the stand-in.
variable "DEBIAN_IMAGE" {
  default = ""
}
variable "MLFLOW_IMAGE" {
  default = ""
}
# The digest of the base that the labels name: of the image above or of the bootstrapped archive.
variable "DEBIAN_DIGEST" {
  default = ""
}
variable "MLFLOW_DIGEST" {
  default = ""
}
# The host's certificate authorities: a build secret, in no layer.
variable "AUTHORITIES" {
  default = ""
}
# Lines of NAME=VALUE with the host's proxies: a secret as well, their addresses may hold passwords.
variable "PROXIES" {
  default = ""
}
# Major.minor of the Python in the minimal base.
variable "IMAGE_PYTHON" {
  default = "3.13"
}
# The folder for what is kept between builds.
variable "STATE" {
  default = ".seatrial"
}
variable "SOURCE" {
  default = ""
}
variable "REVISION" {
  default = ""
}
variable "CREATED" {
  default = ""
}
variable "SOURCE_DATE_EPOCH" {
  default = ""
}
# Of `invoke model`: the model's folder, the folder with what its environment is locked to, whether
# some of that comes as sources only, and the image's reference.
variable "MODEL_FILES" {
  default = ""
}
variable "MODEL_LISTS" {
  default = ""
}
variable "MODEL_SOURCES" {
  default = ""
}
variable "MODEL_TAG" {
  default = ""
}
# What the labels say about it: where it came from, the run and the logged model it belongs to, its
# name and version in the registry, and a digest of its signature.
variable "MODEL_URI" {
  default = ""
}
variable "MODEL_RUN" {
  default = ""
}
variable "MODEL_ID" {
  default = ""
}
variable "MODEL_NAME" {
  default = ""
}
variable "MODEL_VERSION" {
  default = ""
}
variable "MODEL_SIGNATURE" {
  default = ""
}
variable "MODEL_MLFLOW" {
  default = ""
}

function "version" {
  params = []
  result = trimprefix(MLFLOW_VERSION, "v")
}

function "tags" {
  params = [name, version]
  result = version == "" ? ["${REGISTRY}/${name}:latest"] : ["${REGISTRY}/${name}:latest", "${REGISTRY}/${name}:${version}"]
}

# Empty labels are left out.
function "labels" {
  params = [title, version, base, digest, more]
  result = {
    for key, value in merge({
      "io.seatrial.image"                    = title
      "org.opencontainers.image.title"       = title
      "org.opencontainers.image.version"     = version
      "org.opencontainers.image.source"      = SOURCE
      "org.opencontainers.image.revision"    = REVISION
      "org.opencontainers.image.created"     = CREATED
      "org.opencontainers.image.base.name"   = base
      "org.opencontainers.image.base.digest" = digest
    }, more) : key => value if value != ""
  }
}

group "default" {
  targets = ["custom", "hardened", "slim"]
}
# What `invoke test` takes when no variant is named: one image, in minutes.
group "tried" {
  targets = ["custom"]
}
group "variants" {
  targets = ["upstream", "custom", "hardened", "hardened-dev", "slim", "model-server"]
}
group "services" {
  targets = ["postgres", "minio", "mysql"]
}
group "bases" {
  targets = ["debian", "system", "tools", "python", "minimal", "wheels", "model-lock", "model-tried", "python-slim"]
}
# What `invoke model` makes of one model.
group "models" {
  targets = ["model"]
}

# Not an image: its args are the names and values of what a person may set.
target "arguments" {
  args = {
    REGISTRY         = REGISTRY
    MLFLOW_VERSION   = version()
    BOTO3_VERSION    = BOTO3_VERSION
    PSYCOPG2_VERSION = PSYCOPG2_VERSION
    POSTGRES_IMAGE   = POSTGRES_IMAGE
    MINIO_IMAGE      = MINIO_IMAGE
    MYSQL_IMAGE      = MYSQL_IMAGE
    COMPRESSION      = COMPRESSION
  }
}

target "common" {
  args = {
    SOURCE_DATE_EPOCH = SOURCE_DATE_EPOCH == "" ? null : SOURCE_DATE_EPOCH
  }
  secret = concat(
    AUTHORITIES == "" ? [] : ["id=ca,src=${AUTHORITIES}"],
    PROXIES == "" ? [] : ["id=proxies,src=${PROXIES}"],
  )
}

target "shipped" {
  inherits = ["common"]
  attest   = ["type=provenance,mode=max"]
}

# --- Bases: parts of the images below, never tagged. ---

# The stand-in for `debian:trixie-slim` where no registry answers. Its context is the folder of
# bootstrapped root file systems (seatrial.build.bootstrap), an archive for each architecture.
target "debian" {
  inherits          = ["common"]
  context           = "${STATE}/bases/debian"
  dockerfile-inline = <<-EOT
    FROM scratch
    ARG TARGETARCH
    ADD $${TARGETARCH}.tar /
    CMD ["bash"]
  EOT
  platforms         = [BUILD_PLATFORM]
}

# The same for an image's own platform: below images whose steps run there, emulated if need be.
target "system" {
  inherits  = ["debian"]
  platforms = ["linux/amd64", "linux/arm64"]
}

target "tools" {
  inherits  = ["common"]
  context   = "docker/bases/tools"
  contexts  = { "debian:trixie-slim" = DEBIAN_IMAGE == "" ? "target:debian" : "docker-image://${DEBIAN_IMAGE}" }
  platforms = [BUILD_PLATFORM]
}

target "python" {
  inherits  = ["common"]
  context   = "docker/bases/python"
  contexts  = { tools = "target:tools", scripts = "docker/bases/scripts" }
  platforms = ["linux/amd64", "linux/arm64"]
}

target "minimal" {
  inherits  = ["common"]
  context   = "docker/bases/minimal"
  contexts  = { tools = "target:tools", scripts = "docker/bases/scripts" }
  platforms = ["linux/amd64", "linux/arm64"]
}

# --- Variants. ---

target "upstream" {
  inherits = ["shipped"]
  context  = "docker/upstream"
  contexts = merge(
    { python = "target:python", tools = "target:tools", scripts = "docker/bases/scripts" },
    MLFLOW_IMAGE == "" ? {} : { "ghcr.io/mlflow/mlflow:v${version()}" = "docker-image://${MLFLOW_IMAGE}" },
  )
  target    = MLFLOW_IMAGE == "" ? "stand-in" : "official"
  platforms = ["linux/amd64", "linux/arm64"]
  tags      = tags("upstream", version())
  args      = { MLFLOW_VERSION = version() }
  labels = labels(
    "upstream",
    version(),
    MLFLOW_IMAGE == "" ? "debian:trixie-slim" : "ghcr.io/mlflow/mlflow:v${version()}",
    MLFLOW_IMAGE == "" ? DEBIAN_DIGEST : MLFLOW_DIGEST,
    { "io.seatrial.stand-in" = MLFLOW_IMAGE == "" ? "true" : "false" },
  )
}

target "custom" {
  inherits  = ["shipped"]
  context   = "docker/custom"
  contexts  = { upstream = "target:upstream", tools = "target:tools", scripts = "docker/bases/scripts" }
  platforms = ["linux/amd64", "linux/arm64"]
  tags      = tags("custom", version())
  args = {
    BOTO3_VERSION    = BOTO3_VERSION
    PSYCOPG2_VERSION = PSYCOPG2_VERSION
  }
  # The base is the outermost image that was not made here: upstream itself is of the same build.
  labels = labels(
    "custom",
    version(),
    MLFLOW_IMAGE == "" ? "debian:trixie-slim" : "ghcr.io/mlflow/mlflow:v${version()}",
    MLFLOW_IMAGE == "" ? DEBIAN_DIGEST : MLFLOW_DIGEST,
    {
      "io.seatrial.stand-in"      = MLFLOW_IMAGE == "" ? "true" : "false"
      "io.seatrial.pin.boto3"     = BOTO3_VERSION
      "io.seatrial.pin.psycopg2-binary" = PSYCOPG2_VERSION
    },
  )
}

target "hardened" {
  inherits = ["shipped"]
  context  = "docker/hardened"
  contexts = {
    minimal    = "target:minimal"
    tools      = "target:tools"
    scripts    = "docker/bases/scripts"
    pruning    = "docker/hardened"

    mlflow-entrypoint = "packages/mlflow-entrypoint"
  }
  platforms = ["linux/amd64", "linux/arm64"]
  tags      = tags("hardened", version())
  args      = { MLFLOW_VERSION = version() }
  labels    = labels("hardened", version(), "scratch", "", {})
}

target "hardened-dev" {
  inherits = ["shipped"]
  context  = "docker/hardened-dev"
  contexts = {
    "debian:trixie-slim" = DEBIAN_IMAGE == "" ? "target:system" : "docker-image://${DEBIAN_IMAGE}"
    hardened             = "target:hardened"
    tools                = "target:tools"
    scripts              = "docker/bases/scripts"
  }
  platforms = ["linux/amd64", "linux/arm64"]
  tags      = tags("hardened-dev", version())
  labels    = labels("hardened-dev", version(), "debian:trixie-slim", DEBIAN_DIGEST, {})
}

# The hardened image's way with other lists.
target "slim" {
  inherits   = ["hardened"]
  context    = "docker/slim"
  dockerfile = "../hardened/Dockerfile"
  tags       = tags("slim", version())
  labels     = labels("slim", version(), "scratch", "", {})
}

# --- Models: their server without one, and with one. ---

target "serving" {
  inherits = ["common"]
  context  = "docker/model-server"
  contexts = {
    minimal    = "target:minimal"
    tools      = "target:tools"
    scripts    = "docker/bases/scripts"

    mlflow-entrypoint   = "packages/mlflow-entrypoint"
    mlflow-model-server = "packages/mlflow-model-server"
  }
  platforms = ["linux/amd64", "linux/arm64"]
  args      = { MLFLOW_VERSION = version() }
}

target "model-server" {
  inherits = ["shipped", "serving"]
  target   = "model-server"
  tags     = tags("model-server", version())
  labels   = labels("model-server", version(), "scratch", "", {})
}

target "wheels" {
  inherits = ["common"]
  context  = "docker/model-wheels"
  contexts = {
    "debian:trixie-slim" = DEBIAN_IMAGE == "" ? "target:system" : "docker-image://${DEBIAN_IMAGE}"
    tools                = "target:tools"
    online               = "docker/bases/tools"
    lists                = MODEL_LISTS
  }
  platforms = ["linux/amd64", "linux/arm64"]
  args      = merge({ PYTHON = IMAGE_PYTHON }, without_proxies())
}

# A docker client that is told of proxies hands them, with their passwords, to each step of a build. A
# stage that runs a stranger's code gets none; what needs them there takes them from the secret.
function "without_proxies" {
  params = []
  result = { for name in ["HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy"] : name => "" }
}

# What a model requires, locked; the result is a folder of lists.
target "model-lock" {
  inherits = ["common"]
  context  = "docker/model-lock"
  contexts = {
    tools  = "target:tools"
    lists  = MODEL_LISTS
    wheels = MODEL_SOURCES == "" ? MODEL_LISTS : "target:wheels"
  }
  platforms = ["linux/amd64", "linux/arm64"]
  args      = { PYTHON = IMAGE_PYTHON }
}

# With the environment of one model.
target "locked" {
  inherits = ["serving"]
  contexts = {
    lists  = MODEL_LISTS
    wheels = MODEL_SOURCES == "" ? MODEL_LISTS : "target:wheels"
  }
}

# Whether the model loads and answers is tried natively, whatever platforms the image is for.
target "model-tried" {
  inherits  = ["locked"]
  contexts  = { model-files = MODEL_FILES }
  args      = without_proxies()
  target    = "tried"
  platforms = [BUILD_PLATFORM]
}

target "model" {
  inherits = ["shipped", "locked"]
  contexts = { model-checked = "target:model-tried" }
  target   = "model"
  tags     = [MODEL_TAG]
  labels   = labels("model", compact([MODEL_VERSION, MODEL_ID, "unregistered"])[0], "scratch", "", {
    "io.seatrial.model.uri"       = MODEL_URI
    "io.seatrial.model.run"       = MODEL_RUN
    "io.seatrial.model.id"        = MODEL_ID
    "io.seatrial.model.name"      = MODEL_NAME
    "io.seatrial.model.version"   = MODEL_VERSION
    "io.seatrial.model.signature" = MODEL_SIGNATURE
    "io.seatrial.model.mlflow"    = MODEL_MLFLOW
  })
}

# --- Stand-ins: images of others that no registry gives here; see seatrial.model.build_docker. ---

target "python-slim" {
  inherits = ["common"]
  context  = "docker/stand-ins/python-slim"
  contexts = {
    "debian:trixie-slim" = DEBIAN_IMAGE == "" ? "target:debian" : "docker-image://${DEBIAN_IMAGE}"
    tools                = "target:tools"
    machine              = "${STATE}/bases/python-slim"
  }
  platforms = [BUILD_PLATFORM]
  tags      = tags("python-slim", "")
  labels    = labels("python-slim", "", "debian:trixie-slim", DEBIAN_DIGEST, { "io.seatrial.stand-in" = "true" })
}

# --- Services: what the trial needs beside MLflow, for the builder's own platform. ---

target "postgres" {
  inherits = ["shipped"]
  context  = "docker/services/postgres"
  contexts = {
    "debian:trixie-slim" = DEBIAN_IMAGE == "" ? "target:debian" : "docker-image://${DEBIAN_IMAGE}"
    tools                = "target:tools"
  }
  target    = POSTGRES_IMAGE == "" ? "built" : "given"
  platforms = [BUILD_PLATFORM]
  tags      = tags("postgres", "")
  args      = { POSTGRES_IMAGE = POSTGRES_IMAGE == "" ? null : POSTGRES_IMAGE }
  labels = labels(
    "postgres",
    POSTGRES_IMAGE == "" ? "17" : "",
    POSTGRES_IMAGE == "" ? "debian:trixie-slim" : POSTGRES_IMAGE,
    POSTGRES_IMAGE == "" ? DEBIAN_DIGEST : "",
    {},
  )
}

target "minio" {
  inherits = ["shipped"]
  context  = "docker/services/minio"
  contexts = {
    "debian:trixie-slim" = DEBIAN_IMAGE == "" ? "target:debian" : "docker-image://${DEBIAN_IMAGE}"
    online               = "docker/bases/tools"
  }
  target    = MINIO_IMAGE == "" ? "built" : "given"
  platforms = [BUILD_PLATFORM]
  tags      = tags("minio", "")
  args = {
    MINIO_IMAGE          = MINIO_IMAGE == "" ? null : MINIO_IMAGE
    MINIO_MODULE_VERSION = "v0.0.0-20260212201848-7aac2a2c5b7c"
  }
  labels = labels(
    "minio",
    MINIO_IMAGE == "" ? "v0.0.0-20260212201848-7aac2a2c5b7c" : "",
    MINIO_IMAGE == "" ? "scratch" : MINIO_IMAGE,
    "",
    {},
  )
}

target "mysql" {
  inherits = ["shipped"]
  context  = "docker/services/mysql"
  contexts = {
    "debian:trixie-slim" = DEBIAN_IMAGE == "" ? "target:debian" : "docker-image://${DEBIAN_IMAGE}"
    tools                = "target:tools"
  }
  target    = MYSQL_IMAGE == "" ? "built" : "given"
  platforms = [BUILD_PLATFORM]
  tags      = tags("mysql", "")
  args      = { MYSQL_IMAGE = MYSQL_IMAGE == "" ? null : MYSQL_IMAGE }
  labels = labels(
    "mysql",
    MYSQL_IMAGE == "" ? "11.8" : "",
    MYSQL_IMAGE == "" ? "debian:trixie-slim" : MYSQL_IMAGE,
    MYSQL_IMAGE == "" ? DEBIAN_DIGEST : "",
    {},
  )
}
