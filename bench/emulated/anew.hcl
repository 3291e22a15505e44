# Read after the other two where a build is measured: what makes the Python environment runs, whatever
# the cache holds; what is below it stays. Ignoring the cache at a step would also empty the mounts
# that hold downloads, this project's own among them, so such a step gets a changed input instead: its
# scripts come from a copy that differs in one file, or it knows the moment.

variable "SCRIPTS" {
  default = "docker/bases/scripts"
}
variable "MOMENT" {
  default = ""
}

target "upstream" {
  contexts        = { scripts = SCRIPTS }
  no-cache-filter = ["stand-in"]
}

target "custom" {
  contexts        = { scripts = SCRIPTS }
  no-cache-filter = ["custom"]
}

target "download" {
  args = { MOMENT = MOMENT }
}

target "emulated" {
  args = { MOMENT = MOMENT }
}
