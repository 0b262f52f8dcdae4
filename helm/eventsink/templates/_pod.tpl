{{/*
The template of a part's pod. The argument is a dict:
root ($), part, config (the settings, a dict), ports, env, volumes and mounts (lists, beside those of the values).
*/}}
{{- define "eventsink.podTemplate" -}}
{{- $values := index .root.Values .part -}}
metadata:
  labels:
    {{- merge (include "eventsink.selectorLabels" . | fromYaml) (dict "app.kubernetes.io/part-of" "eventsink") $values.podLabels .root.Values.commonLabels | toYaml | nindent 4 }}
  annotations:
    {{- merge (dict "checksum/config" (toYaml .config | sha256sum)) $values.podAnnotations .root.Values.commonAnnotations | toYaml | nindent 4 }}
spec:
  serviceAccountName: {{ include "eventsink.serviceAccount" . | quote }}
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ $values.terminationGracePeriodSeconds }}
  {{- with concat .root.Values.imagePullSecrets .root.Values.global.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $values.priorityClassName }}
  priorityClassName: {{ . | quote }}
  {{- end }}
  {{- with $values.podSecurityContext }}
  securityContext:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  containers:
  - name: {{ .part }}
    image: {{ include "eventsink.image" .root | quote }}
    imagePullPolicy: {{ .root.Values.image.pullPolicy }}
    args:
      {{- concat (list .part "--config" (printf "/etc/eventsink/%s.yaml" .part)) $values.args | toYaml | nindent 6 }}
    {{- with concat .env $values.env }}
    env:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    {{- with $values.envFrom }}
    envFrom:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    ports:
      {{- toYaml .ports | nindent 6 }}
    livenessProbe:
      {{- merge (dict "httpGet" (dict "path" "/healthz" "port" "metrics")) $values.livenessProbe | toYaml | nindent 6 }}
    readinessProbe:
      {{- merge (dict "httpGet" (dict "path" "/readyz" "port" "metrics")) $values.readinessProbe | toYaml | nindent 6 }}
    {{- with $values.resources }}
    resources:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    {{- with $values.securityContext }}
    securityContext:
      {{- toYaml . | nindent 6 }}
    {{- end }}
    volumeMounts:
    - {name: config, mountPath: /etc/eventsink, readOnly: true}
    {{- with concat .mounts $values.volumeMounts }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
    - {name: tmp, mountPath: /tmp}
  volumes:
  - {name: config, configMap: {name: {{ include "eventsink.partName" . }}}}
  {{- with concat .volumes $values.volumes }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
  - {name: tmp, emptyDir: {sizeLimit: 16Mi}}
  {{- with $values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $values.topologySpreadConstraints }}
  topologySpreadConstraints:
    {{- $selector := dict "matchLabels" (include "eventsink.selectorLabels" $ | fromYaml) }}
    {{- range . }}
    - {{- merge (dict) . (ternary dict (dict "labelSelector" $selector) (hasKey . "labelSelector")) | toYaml | nindent 6 }}
    {{- end }}
  {{- end }}
{{- end -}}

{{/* A volume with one key of a Secret under a fixed file name: name, secret, key, path. */}}
{{- define "eventsink.secretFile" -}}
name: {{ .name | quote }}
secret:
  secretName: {{ .secret | quote }}
  defaultMode: 0440
  items: [{key: {{ .key | quote }}, path: {{ .path }}}]
{{- end -}}

{{/* The volumes that hold what `eventsink.egressSettings` names. */}}
{{- define "eventsink.egressVolumes" -}}
{{- with .Values.proxy }}
{{- if .secretName }}
- {{- include "eventsink.secretFile" (dict "name" "proxy" "secret" .secretName "key" .secretKey "path" "url") | nindent 2 }}
{{- end }}
{{- end }}
{{- with .Values.ca }}
{{- if .configMapName }}
- name: ca
  configMap: {name: {{ .configMapName | quote }}, items: [{key: {{ .key | quote }}, path: ca.crt}]}
{{- else if .secretName }}
- {{- include "eventsink.secretFile" (dict "name" "ca" "secret" .secretName "key" .key "path" "ca.crt") | nindent 2 }}
{{- end }}
{{- end }}
{{- end -}}

{{/* Where they are mounted. */}}
{{- define "eventsink.egressMounts" -}}
{{- range (include "eventsink.egressVolumes" . | fromYamlArray) }}
- {name: {{ .name }}, mountPath: /etc/eventsink-{{ .name }}, readOnly: true}
{{- end }}
{{- end -}}

{{/* The ServiceAccount of a part: root, part. */}}
{{- define "eventsink.serviceAccountObject" -}}
{{- $account := (index .root.Values .part).serviceAccount -}}
{{- if $account.create }}
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ include "eventsink.serviceAccount" . | quote }}
  namespace: {{ .root.Release.Namespace | quote }}
  {{- include "eventsink.meta" (dict "root" .root "part" .part "annotations" $account.annotations) | nindent 2 }}
{{- end }}
{{- end -}}

{{/* The ConfigMap with the settings of a part: root, part, config. */}}
{{- define "eventsink.configObject" -}}
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ include "eventsink.partName" . }}
  namespace: {{ .root.Release.Namespace | quote }}
  {{- include "eventsink.meta" (dict "root" .root "part" .part) | nindent 2 }}
data:
  {{ .part }}.yaml: |
    {{- toYaml .config | nindent 4 }}
{{- end -}}

{{/* A Service of a part: root, part, name (what follows the full name), service (its values), ports. */}}
{{- define "eventsink.serviceObject" -}}
apiVersion: v1
kind: Service
metadata:
  name: {{ include "eventsink.fullname" .root }}-{{ .name }}
  namespace: {{ .root.Release.Namespace | quote }}
  {{- include "eventsink.meta" (dict "root" .root "part" .part "labels" .service.labels "annotations" .service.annotations) | nindent 2 }}
spec:
  type: {{ .service.type }}
  selector:
    {{- include "eventsink.selectorLabels" . | nindent 4 }}
  ports:
    {{- toYaml .ports | nindent 4 }}
{{- end -}}
