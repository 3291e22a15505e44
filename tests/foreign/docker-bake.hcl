# The images of this repository.
group "default" {
  targets = ["harbour", "unrelated"]
}

target "harbour" {
  context = "images/mlflow"
  tags    = ["harbour/mlflow:latest"]
}

# No contract, no trial.
target "unrelated" {
  context = "images/unrelated"
  tags    = ["harbour/unrelated:latest"]
}
