"""`pilotfish init`: a first ModelDeployment from a model file, each value with the reason why it is so."""
