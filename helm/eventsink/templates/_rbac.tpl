{{/*
A role with its binding to a part's ServiceAccount. The argument is a dict: root, part, rules (text), perhaps name, and namespace; without a
namespace it is a ClusterRole.
*/}}
{{- define "eventsink.role" -}}
{{- $kind := ternary "Role" "ClusterRole" (hasKey . "namespace") }}
{{- $name := default (include "eventsink.partName" .) .name }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ $kind }}
metadata:
  name: {{ $name }}
  {{- with .namespace }}
  namespace: {{ . | quote }}
  {{- end }}
  {{- include "eventsink.meta" (dict "root" .root "part" .part) | nindent 2 }}
rules:
{{ .rules }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ $kind }}Binding
metadata:
  name: {{ $name }}
  {{- with .namespace }}
  namespace: {{ . | quote }}
  {{- end }}
  {{- include "eventsink.meta" (dict "root" .root "part" .part) | nindent 2 }}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: {{ $kind }}, name: {{ $name }}}
subjects:
- {kind: ServiceAccount, name: {{ include "eventsink.serviceAccount" . | quote }}, namespace: {{ .root.Release.Namespace | quote }}}
{{- end -}}

{{/* A part's rights where tenants are: in the whole cluster, or in each listed namespace. */}}
{{- define "eventsink.rolesOfTenants" -}}
{{- if .root.Values.namespaces }}
{{- range .root.Values.namespaces }}
{{- include "eventsink.role" (merge (dict "namespace" .name) $) }}
{{- end }}
{{- else }}
{{- include "eventsink.role" . }}
{{- end }}
{{- end -}}
