{{/* What the names of all objects begin with. */}}
{{- define "eventsink.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "eventsink.sinksNamespace" -}}
{{- default (printf "%s-sinks" .Release.Namespace) .Values.sinksNamespace.name -}}
{{- end -}}

{{- define "eventsink.image" -}}
{{- with .Values.image -}}
{{- with $.Values.global.imageRegistry -}}{{- printf "%s/" (trimSuffix "/" .) -}}{{- end -}}
{{- if .digest -}}
{{- printf "%s@%s" .repository .digest -}}
{{- else -}}
{{- printf "%s:%s" .repository (default $.Chart.AppVersion .tag) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "eventsink.sourceTokensSecret" -}}
{{- default (printf "%s-source-tokens" (include "eventsink.fullname" .)) .Values.tokens.sources -}}
{{- end -}}

{{- define "eventsink.adminSecret" -}}
{{- default (printf "%s-admin" (include "eventsink.fullname" .)) .Values.tokens.admin -}}
{{- end -}}

{{- define "eventsink.restKeysSecret" -}}
{{- default (printf "%s-rest-keys" (include "eventsink.fullname" .)) .Values.rest.keys.secretName -}}
{{- end -}}

{{/* "true" where the admission webhook is installed: the operator serves none for listed namespaces. */}}
{{- define "eventsink.admission" -}}
{{- if and .Values.operator.admission.enabled (not .Values.namespaces) -}}true{{- end -}}
{{- end -}}

{{/* The name of the webhook's configuration, Service, certificate and Secret. */}}
{{- define "eventsink.webhook" -}}
{{- printf "%s-operator-webhook" (include "eventsink.fullname" .) -}}
{{- end -}}

{{/* The Secret with the webhook's certificate where the operator does not make it. */}}
{{- define "eventsink.webhookSecret" -}}
{{- with .Values.operator.admission -}}
{{- if .certManager.enabled -}}{{- include "eventsink.webhook" $ -}}{{- else -}}{{- .tlsSecretName -}}{{- end -}}
{{- end -}}
{{- end -}}

{{/* Bytes of a quantity such as 10Gi; empty where it is written in another way. */}}
{{- define "eventsink.bytes" -}}
{{- if regexMatch "^[0-9]+(\\.[0-9]+)?(k|M|G|T|Ki|Mi|Gi|Ti)?$" . -}}
{{- $number := regexFind "^[0-9.]+" . -}}
{{- $size := get (dict "" 1 "k" 1000 "M" 1000000 "G" 1000000000 "T" 1000000000000 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776) (trimPrefix $number .) -}}
{{- mulf (float64 $number) $size | int64 -}}
{{- end -}}
{{- end -}}

{{/* Milliseconds of a duration of the settings: 90s, 1h30m, or a number of seconds; empty where the program will refuse it. */}}
{{- define "eventsink.milliseconds" -}}
{{- $text := toString . -}}
{{- if regexMatch "^[0-9]+(\\.[0-9]+)?$" $text -}}
{{- mulf (float64 $text) 1000 | int64 -}}
{{- else if regexMatch "^([0-9]+(ms|[smhdw]))+$" $text -}}
{{- $sum := 0 -}}
{{- range regexFindAll "[0-9]+(ms|[smhdw])" $text -1 -}}
{{- $number := regexFind "^[0-9]+" . -}}
{{- $unit := get (dict "ms" 1 "s" 1000 "m" 60000 "h" 3600000 "d" 86400000 "w" 604800000) (trimPrefix $number .) -}}
{{- $sum = add $sum (mul (int64 $number) $unit) -}}
{{- end -}}
{{- $sum -}}
{{- end -}}
{{- end -}}

{{/* The names below are of parts: the argument is a dict of root ($) and part ("operator", "router", "rest"). */}}
{{- define "eventsink.partName" -}}
{{- printf "%s-%s" (include "eventsink.fullname" .root) .part -}}
{{- end -}}

{{- define "eventsink.serviceAccount" -}}
{{- default (include "eventsink.partName" .) (index .root.Values .part).serviceAccount.name -}}
{{- end -}}

{{/* By these, Services and policies find the pods of a part; they never change. */}}
{{- define "eventsink.selectorLabels" -}}
app.kubernetes.io/name: eventsink-{{ .part }}
app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
{{- end -}}

{{/* Labels of an object: root, and perhaps part and labels (of its own). */}}
{{- define "eventsink.labels" -}}
{{- $labels := dict "app.kubernetes.io/part-of" "eventsink" "app.kubernetes.io/managed-by" .root.Release.Service -}}
{{- $_ := set $labels "app.kubernetes.io/version" .root.Chart.AppVersion -}}
{{- $_ := set $labels "helm.sh/chart" (printf "%s-%s" .root.Chart.Name (replace "+" "_" .root.Chart.Version)) -}}
{{- if .part -}}
{{- $labels = merge (include "eventsink.selectorLabels" . | fromYaml) $labels -}}
{{- else -}}
{{- $_ := set $labels "app.kubernetes.io/instance" .root.Release.Name -}}
{{- end -}}
{{- merge $labels (default dict .labels) .root.Values.commonLabels | toYaml -}}
{{- end -}}

{{/* The lines `labels:` and, where there are any, `annotations:` of an object: root, and perhaps part, labels, annotations. */}}
{{- define "eventsink.meta" -}}
labels:
  {{- include "eventsink.labels" . | nindent 2 }}
{{- with merge (dict) (default dict .annotations) .root.Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}
