"""An installation on real pods, from `helm install` to `helm uninstall`; run by `make e2e` only (it needs KUBECONFIG and IMAGE)."""
