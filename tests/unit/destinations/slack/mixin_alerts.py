"""Every alert of the kubernetes-mixin, the node-mixin and the mixins of Prometheus, Alertmanager and the Prometheus Operator, with the labels
that kube-prometheus-stack's alerts have, and where each is.

Labels of a series that was not aggregated include those of what was scraped. kube-state-metrics keeps `namespace`, `pod` and `container` of
objects that have them (honorLabels); of others they are its own.
"""

from __future__ import annotations

KSM = {
    "job": "kube-state-metrics",
    "instance": "10.2.0.7:8080",
    "endpoint": "http",
    "service": "kps-kube-state-metrics",
    "namespace": "monitoring",
    "pod": "kps-kube-state-metrics-6d9f7-abcde",
    "container": "kube-state-metrics",
}
SHOP = KSM | {"namespace": "shop"}
KUBELET = {
    "job": "kubelet",
    "instance": "10.0.0.3:10250",
    "endpoint": "https-metrics",
    "metrics_path": "/metrics",
    "namespace": "kube-system",
    "service": "kps-kubelet",
    "node": "node-3",
}
NODE = {
    "job": "node-exporter",
    "instance": "10.0.0.3:9100",
    "endpoint": "http-metrics",
    "service": "kps-prometheus-node-exporter",
    "namespace": "monitoring",
    "pod": "kps-prometheus-node-exporter-x7k2p",
    "container": "node-exporter",
}
APISERVER = {
    "job": "apiserver",
    "instance": "10.0.0.1:6443",
    "endpoint": "https",
    "namespace": "default",
    "service": "kubernetes",
}
PROMETHEUS = {
    "job": "kps-prometheus",
    "instance": "10.2.0.9:9090",
    "endpoint": "http-web",
    "service": "kps-prometheus",
    "namespace": "monitoring",
    "pod": "prometheus-kps-prometheus-0",
    "container": "prometheus",
}
ALERTMANAGER = PROMETHEUS | {
    "job": "kps-alertmanager",
    "service": "kps-alertmanager",
    "pod": "alertmanager-kps-alertmanager-0",
    "container": "alertmanager",
}
OPERATOR = PROMETHEUS | {
    "job": "kps-operator",
    "service": "kps-operator",
    "pod": "kps-operator-7c9d8-q2w3e",
    "container": "kube-prometheus-stack",
}
SCHEDULER = {
    "job": "kube-scheduler",
    "instance": "10.0.0.1:10259",
    "endpoint": "http-metrics",
    "namespace": "kube-system",
    "service": "kps-kube-scheduler",
    "pod": "kube-scheduler-control-plane-1",
}
_CONTROLLER = {"controller": "prometheus", "namespace": "monitoring"}
_VOLUME = KUBELET | {"namespace": "shop", "persistentvolumeclaim": "data-db-0"}
_QUOTA = {"namespace": "shop", "resource": "limits.cpu", "resourcequota": "team-shop"}
_ROOT = NODE | {"device": "/dev/sda1", "fstype": "ext4", "mountpoint": "/var"}
_BY_SERVICE = {"namespace": "monitoring", "service": "kps-alertmanager"}
_KUBELET_NODE = {"node": "node-3", "instance": "10.0.0.3:10250"}
_PLACE_OF_PROMETHEUS = "monitoring/prometheus-kps-prometheus-0"
_PLACE_OF_ALERTMANAGER = "monitoring/alertmanager-kps-alertmanager-0"
_PLACE_OF_OPERATOR = "monitoring/kps-operator-7c9d8-q2w3e"

_OF_PROMETHEUS = [
    "BadConfig",
    "SDRefreshFailure",
    "KubernetesListWatchFailures",
    "NotificationQueueRunningFull",
    "ErrorSendingAlertsToSomeAlertmanagers",
    "NotConnectedToAlertmanagers",
    "TSDBReloadsFailing",
    "TSDBCompactionsFailing",
    "NotIngestingSamples",
    "DuplicateTimestamps",
    "OutOfOrderTimestamps",
    "RemoteStorageFailures",
    "RemoteWriteBehind",
    "RemoteWriteDesiredShards",
    "RuleFailures",
    "MissingRuleEvaluations",
    "TargetLimitHit",
    "LabelLimitHit",
    "ScrapeBodySizeLimitHit",
    "ScrapeSampleLimitHit",
    "TargetSyncFailure",
    "HighQueryLoad",
    "ErrorSendingAlertsToAnyAlertmanager",
]

ALERTS: dict[str, tuple[dict[str, str], str]] = {
    # kubernetes-mixin: applications
    "KubePodCrashLooping": (SHOP | {"pod": "api-0", "container": "app", "reason": "CrashLoopBackOff", "uid": "1"}, "shop/api-0"),
    "KubePodNotReady": ({"namespace": "shop", "pod": "api-0", "job": "kube-state-metrics"}, "shop/api-0"),
    "KubeDeploymentGenerationMismatch": (SHOP | {"deployment": "checkout"}, "shop/checkout"),
    "KubeDeploymentReplicasMismatch": (SHOP | {"deployment": "checkout"}, "shop/checkout"),
    "KubeDeploymentRolloutStuck": (SHOP | {"deployment": "checkout", "condition": "Progressing"}, "shop/checkout"),
    "KubeStatefulSetReplicasMismatch": (SHOP | {"statefulset": "db"}, "shop/db"),
    "KubeStatefulSetGenerationMismatch": (SHOP | {"statefulset": "db"}, "shop/db"),
    "KubeStatefulSetUpdateNotRolledOut": ({"namespace": "shop", "statefulset": "db", "job": "kube-state-metrics"}, "shop/db"),
    "KubeDaemonSetRolloutStuck": (SHOP | {"daemonset": "logs"}, "shop/logs"),
    "KubeContainerWaiting": (SHOP | {"pod": "api-0", "container": "app", "reason": "ImagePullBackOff", "uid": "1"}, "shop/api-0"),
    "KubeDaemonSetNotScheduled": (SHOP | {"daemonset": "logs"}, "shop/logs"),
    "KubeDaemonSetMisScheduled": (SHOP | {"daemonset": "logs"}, "shop/logs"),
    "KubeJobNotCompleted": ({"namespace": "shop", "job_name": "import-28"}, "shop/import-28"),
    "KubeJobFailed": (SHOP | {"job_name": "import-28", "reason": "BackoffLimitExceeded"}, "shop/import-28"),
    "KubeHpaReplicasMismatch": (SHOP | {"horizontalpodautoscaler": "checkout"}, "shop/checkout"),
    "KubeHpaMaxedOut": (SHOP | {"horizontalpodautoscaler": "checkout"}, "shop/checkout"),
    "KubePdbNotEnoughHealthyPods": (SHOP | {"poddisruptionbudget": "checkout"}, "shop/checkout"),
    # kubernetes-mixin: resources
    "KubeCPUOvercommit": ({}, ""),
    "KubeMemoryOvercommit": ({}, ""),
    "KubeCPUQuotaOvercommit": ({}, ""),
    "KubeMemoryQuotaOvercommit": ({}, ""),
    "KubeQuotaAlmostFull": (_QUOTA, "shop/team-shop"),
    "KubeQuotaFullyUsed": (_QUOTA, "shop/team-shop"),
    "KubeQuotaExceeded": (_QUOTA, "shop/team-shop"),
    "CPUThrottlingHigh": ({"namespace": "shop", "pod": "api-0", "container": "app", "service": "kps-kubelet"}, "shop/api-0"),
    # kubernetes-mixin: storage
    "KubePersistentVolumeFillingUp": (_VOLUME, "shop/data-db-0"),
    "KubePersistentVolumeInodesFillingUp": (_VOLUME, "shop/data-db-0"),
    "KubePersistentVolumeErrors": (KSM | {"persistentvolume": "pvc-1f", "phase": "Failed"}, "pvc-1f"),
    # kubernetes-mixin: the system
    "KubeVersionMismatch": ({}, ""),
    "KubeClientErrors": (
        {"instance": "10.0.0.3:10250", "job": "kubelet", "namespace": "kube-system"},
        "10.0.0.3:10250",
    ),
    "KubeAPIErrorBudgetBurn": ({"long": "1h", "short": "5m"}, ""),
    "KubeClientCertificateExpiration": ({"job": "apiserver", "instance": "10.0.0.1:6443"}, "10.0.0.1:6443"),
    "KubeAggregatedAPIErrors": ({"instance": "10.0.0.1:6443", "name": "v1beta1.metrics", "reason": "X"}, "10.0.0.1:6443"),
    "KubeAggregatedAPIDown": ({"name": "v1beta1.metrics.k8s.io", "namespace": "default"}, "default"),
    "KubeAPIDown": ({"job": "apiserver"}, "apiserver"),
    "KubeAPIInstanceUnreachable": (APISERVER, "default/kubernetes"),
    "KubeAPITerminatedRequests": ({}, ""),
    "KubeNodeNotReady": (KSM | {"node": "node-3", "condition": "Ready", "status": "true"}, "node-3"),
    "KubeNodePressure": (KSM | {"node": "node-3", "condition": "DiskPressure", "status": "true"}, "node-3"),
    "KubeNodeUnreachable": (KSM | {"node": "node-3", "key": "node.kubernetes.io/unreachable"}, "node-3"),
    "KubeletTooManyPods": (_KUBELET_NODE, "node-3"),
    "KubeNodeReadinessFlapping": ({"node": "node-3"}, "node-3"),
    "KubeNodeEviction": (_KUBELET_NODE | {"eviction_signal": "memory.available"}, "node-3"),
    "KubeletPlegDurationHigh": (_KUBELET_NODE | {"quantile": "0.99"}, "node-3"),
    "KubeletPodStartUpLatencyHigh": (_KUBELET_NODE, "node-3"),
    "KubeletClientCertificateExpiration": (KUBELET, "node-3"),
    "KubeletServerCertificateExpiration": (KUBELET, "node-3"),
    "KubeletClientCertificateRenewalErrors": (KUBELET, "node-3"),
    "KubeletServerCertificateRenewalErrors": (KUBELET, "node-3"),
    "KubeletInstanceUnreachable": (KUBELET, "node-3"),
    "KubeletDown": ({"job": "kubelet"}, "kubelet"),
    "KubeSchedulerDown": ({"job": "kube-scheduler"}, "kube-scheduler"),
    "KubeSchedulerInstanceUnreachable": (SCHEDULER, "kube-system/kube-scheduler-control-plane-1"),
    "KubeControllerManagerDown": ({"job": "kube-controller-manager"}, "kube-controller-manager"),
    "KubeControllerManagerInstanceUnreachable": (
        SCHEDULER | {"job": "kube-controller-manager", "pod": "kube-controller-manager-1"},
        "kube-system/kube-controller-manager-1",
    ),
    "KubeProxyDown": ({"job": "kube-proxy"}, "kube-proxy"),
    "KubeProxyInstanceUnreachable": (SCHEDULER | {"job": "kube-proxy", "pod": "kube-proxy-4xk"}, "kube-system/kube-proxy-4xk"),
    "KubeStateMetricsListErrors": ({}, ""),
    "KubeStateMetricsWatchErrors": ({}, ""),
    "KubeStateMetricsShardingMismatch": ({}, ""),
    "KubeStateMetricsShardsMissing": ({}, ""),
    # node-mixin
    "NodeFilesystemSpaceFillingUp": (_ROOT, "10.0.0.3:9100 /var"),
    "NodeFilesystemAlmostOutOfSpace": (_ROOT, "10.0.0.3:9100 /var"),
    "NodeFilesystemFilesFillingUp": (_ROOT, "10.0.0.3:9100 /var"),
    "NodeFilesystemAlmostOutOfFiles": (_ROOT | {"nodename": "node-3"}, "node-3 /var"),
    "NodeNetworkReceiveErrs": (NODE | {"device": "eth0"}, "10.0.0.3:9100 eth0"),
    "NodeNetworkTransmitErrs": (NODE | {"device": "eth0"}, "10.0.0.3:9100 eth0"),
    "NodeNetworkInterfaceFlapping": (NODE | {"device": "eth0"}, "10.0.0.3:9100 eth0"),
    "NodeHighNumberConntrackEntriesUsed": (NODE, "10.0.0.3:9100"),
    "NodeTextFileCollectorScrapeError": (NODE, "10.0.0.3:9100"),
    "NodeClockSkewDetected": (NODE, "10.0.0.3:9100"),
    "NodeClockNotSynchronising": (NODE, "10.0.0.3:9100"),
    "NodeRAIDDegraded": (NODE | {"device": "md0"}, "10.0.0.3:9100 md0"),
    "NodeRAIDDiskFailure": (NODE | {"device": "md0", "state": "failed"}, "10.0.0.3:9100 md0"),
    "NodeFileDescriptorLimit": (NODE, "10.0.0.3:9100"),
    "NodeCPUHighUsage": (NODE, "10.0.0.3:9100"),
    "NodeSystemSaturation": (NODE, "10.0.0.3:9100"),
    "NodeMemoryMajorPagesFaults": (NODE, "10.0.0.3:9100"),
    "NodeMemoryHighUtilization": (NODE, "10.0.0.3:9100"),
    "NodeDiskIOSaturation": (NODE | {"device": "nvme0n1"}, "10.0.0.3:9100 nvme0n1"),
    "NodeSystemdServiceFailed": (NODE | {"name": "chronyd.service", "state": "failed"}, "10.0.0.3:9100"),
    "NodeSystemdServiceCrashlooping": (NODE | {"name": "chronyd.service"}, "10.0.0.3:9100"),
    "NodeBondingDegraded": (NODE | {"master": "bond0"}, "10.0.0.3:9100"),
    # targets
    "TargetDown": ({"job": "checkout", "namespace": "shop", "service": "checkout"}, "shop/checkout"),
    "Watchdog": ({}, ""),
    "InfoInhibitor": ({"namespace": "shop"}, "shop"),
    # Prometheus
    **{f"Prometheus{name}": (PROMETHEUS, _PLACE_OF_PROMETHEUS) for name in _OF_PROMETHEUS},
    # Alertmanager
    "AlertmanagerFailedReload": (ALERTMANAGER, _PLACE_OF_ALERTMANAGER),
    "AlertmanagerMembersInconsistent": (ALERTMANAGER, _PLACE_OF_ALERTMANAGER),
    "AlertmanagerFailedToSendAlerts": (ALERTMANAGER | {"integration": "webhook"}, _PLACE_OF_ALERTMANAGER),
    "AlertmanagerClusterFailedToSendAlerts": (_BY_SERVICE | {"integration": "webhook"}, "monitoring/kps-alertmanager"),
    "AlertmanagerConfigInconsistent": (_BY_SERVICE, "monitoring/kps-alertmanager"),
    "AlertmanagerClusterDown": (_BY_SERVICE, "monitoring/kps-alertmanager"),
    "AlertmanagerClusterCrashlooping": (_BY_SERVICE, "monitoring/kps-alertmanager"),
    "AlertmanagerClusterFailedPeers": (ALERTMANAGER, _PLACE_OF_ALERTMANAGER),
    # Prometheus Operator
    "PrometheusOperatorListErrors": (_CONTROLLER, "monitoring"),
    "PrometheusOperatorWatchErrors": (_CONTROLLER, "monitoring"),
    "PrometheusOperatorSyncFailed": (OPERATOR, _PLACE_OF_OPERATOR),
    "PrometheusOperatorReconcileErrors": (_CONTROLLER, "monitoring"),
    "PrometheusOperatorStatusUpdateErrors": (_CONTROLLER, "monitoring"),
    "PrometheusOperatorNodeLookupErrors": (OPERATOR, _PLACE_OF_OPERATOR),
    "PrometheusOperatorNotReady": (_CONTROLLER, "monitoring"),
    "PrometheusOperatorRejectedResources": (OPERATOR | {"resource": "servicemonitor"}, _PLACE_OF_OPERATOR),
    "ConfigReloaderSidecarErrors": (PROMETHEUS | {"container": "config-reloader"}, _PLACE_OF_PROMETHEUS),
}
