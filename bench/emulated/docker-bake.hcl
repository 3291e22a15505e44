# Read after docker/docker-bake.hcl, whose variables and targets it uses; only benchmarks read it.

target "emulated" {
  inherits = ["shipped"]
  context  = "bench/emulated"
  target   = "emulated"
  contexts = {
    # The stand-in installs MLflow itself; over the official image only the rest is left to do.
    base  = MLFLOW_IMAGE == "" ? "target:python" : "target:upstream"
    tools = "target:tools"
    locks = "docker"
  }
  args      = { LOCKS = MLFLOW_IMAGE == "" ? "upstream custom" : "custom" }
  platforms = ["linux/amd64", "linux/arm64"]
  tags      = ["${REGISTRY}/emulated:latest"]
  labels    = labels("emulated", version(), "", "", {})
}

target "download" {
  inherits = ["emulated"]
  target   = "download"
  tags     = []
}
