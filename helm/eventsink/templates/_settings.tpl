{{/*
The settings of each program: what follows from the values, with the part's own `config` over it. Templates get them with
`include "eventsink.operatorSettings" . | fromYaml`.
*/}}
{{/* The keys of a source's tokens: those it names, else its own name, unless it has hashes. */}}
{{- define "eventsink.tokenKeys" -}}
{{- ternary .tokenKeys (ternary list (list .name) (hasKey . "tokenHashes")) (hasKey . "tokenKeys") | toYaml -}}
{{- end -}}

{{/* Those of the values, and those of Kubernetes Events and of reports of policies where they are followed. */}}
{{- define "eventsink.sources" -}}
{{- $sources := .Values.sources -}}
{{- if .Values.events.enabled -}}
{{- $own := dict "name" "kubernetes-events" "format" "kubernetes-events" "tenant" (dict "namespaceOwner" (dict "label" "namespace")) -}}
{{- with .Values.events.defaultTenant -}}{{- $_ := set $own "defaultTenant" . -}}{{- end -}}
{{- $sources = append $sources $own -}}
{{- if .Values.events.policyReports -}}
{{- $sources = append $sources (merge (dict "name" "policy-reports" "format" "policy-report") $own) -}}
{{- end -}}
{{- end -}}
{{- toYaml $sources -}}
{{- end -}}

{{- define "eventsink.allTokenKeys" -}}
{{- $keys := list -}}
{{- range (include "eventsink.sources" . | fromYamlArray) -}}{{- $keys = concat $keys (include "eventsink.tokenKeys" . | fromYamlArray) -}}{{- end -}}
{{- toYaml $keys -}}
{{- end -}}

{{/* How the operator and the router connect: through a proxy, trusting more authorities. */}}
{{- define "eventsink.egressSettings" -}}
{{- $proxy := dict -}}
{{- with .Values.proxy -}}
{{- if .secretName -}}{{- $_ := set $proxy "urlFile" "/etc/eventsink-proxy/url" -}}
{{- else if .url -}}{{- $_ := set $proxy "url" .url -}}
{{- end -}}
{{- if $proxy -}}{{- with .noProxy -}}{{- $_ := set $proxy "noProxy" . -}}{{- end -}}{{- end -}}
{{- end -}}
{{- $egress := dict -}}
{{- with $proxy -}}{{- $_ := set $egress "proxy" . -}}{{- end -}}
{{- if or .Values.ca.configMapName .Values.ca.secretName -}}{{- $_ := set $egress "caFile" "/etc/eventsink-ca/ca.crt" -}}{{- end -}}
{{- toYaml $egress -}}
{{- end -}}

{{- define "eventsink.operatorSettings" -}}
{{- $generate := dict -}}
{{- if .Values.tokens.generate -}}
{{- $keys := include "eventsink.allTokenKeys" . | fromYamlArray -}}
{{- if and $keys (not .Values.tokens.sources) -}}{{- $_ := set $generate (include "eventsink.sourceTokensSecret" .) $keys -}}{{- end -}}
{{- if and .Values.router.admin.enabled (not .Values.tokens.admin) -}}
{{- $_ := set $generate (include "eventsink.adminSecret" .) (list "token") -}}
{{- end -}}
{{- end -}}
{{- $settings := dict "monitor" (dict "address" "0.0.0.0:9090") "sinksNamespace" (include "eventsink.sinksNamespace" .) -}}
{{- $lease := include "eventsink.partName" (dict "root" $ "part" "operator") -}}
{{- if ne $lease "eventsink-operator" -}}
{{- $_ := set $settings "leaderElection" (dict "leaseName" $lease) -}}
{{- end -}}
{{- $app := dict "tokensNamespace" .Release.Namespace -}}
{{- with .Values.slack.app -}}
{{- if .clientId -}}
{{- $_ := set $app "clientId" .clientId -}}
{{- $_ := set $app "clientSecretFile" "/etc/eventsink-slack-app/client-secret" -}}
{{- with .redirectUrl -}}{{- $_ := set $app "redirectUrl" . -}}{{- end -}}
{{- end -}}
{{- end -}}
{{- $_ := set $settings "slackApp" $app -}}
{{- if .Values.slack.tokenSecretName -}}
{{- $_ := set $settings "slack" (dict "tokenFile" "/etc/eventsink-slack/token") -}}
{{- end -}}
{{- with .Values.namespaces -}}{{- $_ := set $settings "namespaces" . -}}{{- end -}}
{{- if include "eventsink.admission" . -}}
{{- $name := include "eventsink.webhook" . -}}
{{- $admission := dict "enabled" true "serviceName" $name "configurationName" $name "secretName" $name -}}
{{- if include "eventsink.webhookSecret" . -}}
{{- $_ := set $admission "tlsCertificateFile" "/etc/eventsink-webhook/tls.crt" -}}
{{- $_ := set $admission "tlsKeyFile" "/etc/eventsink-webhook/tls.key" -}}
{{- end -}}
{{- $_ := set $settings "admission" $admission -}}
{{- end -}}
{{- with $generate -}}{{- $_ := set $settings "tokens" (dict "namespace" $.Release.Namespace "generate" .) -}}{{- end -}}
{{- with include "eventsink.egressSettings" . | fromYaml -}}{{- $_ := set $settings "egress" . -}}{{- end -}}
{{- mergeOverwrite $settings .Values.operator.config | toYaml -}}
{{- end -}}

{{/* queue.maxBytes leaves a fifth of the volume free, and at least twice queue.minFreeBytes. */}}
{{- define "eventsink.routerSettings" -}}
{{- $intake := dict "address" "0.0.0.0:8080" -}}
{{- if .Values.router.tls.secretName -}}
{{- $_ := set $intake "tlsCertificateFile" "/etc/eventsink-tls/tls.crt" -}}
{{- $_ := set $intake "tlsKeyFile" "/etc/eventsink-tls/tls.key" -}}
{{- end -}}
{{- $sources := list -}}
{{- range (include "eventsink.sources" . | fromYamlArray) -}}
{{- $files := list -}}
{{- range (include "eventsink.tokenKeys" . | fromYamlArray) -}}
{{- $files = append $files (printf "/etc/eventsink-tokens/%s" .) -}}
{{- end -}}
{{- $source := omit . "tokenKeys" -}}
{{- if $files -}}{{- $source = merge (dict "tokenFiles" $files) $source -}}{{- end -}}
{{- $sources = append $sources $source -}}
{{- end -}}
{{- $settings := dict "monitor" (dict "address" "0.0.0.0:9090") "sinksNamespace" (include "eventsink.sinksNamespace" .) -}}
{{- $_ := set $settings "intake" $intake -}}
{{- $queue := dict "path" "/var/lib/eventsink/queue.db" -}}
{{- if not .Values.router.queue.existingClaim -}}
{{- with include "eventsink.bytes" .Values.router.queue.size -}}
{{- $_ := set $queue "maxBytes" (min (div (mul (int64 .) 8) 10) (sub (int64 .) 536870912) | max 1048576) -}}
{{- end -}}
{{- end -}}
{{- $_ := set $settings "queue" $queue -}}
{{- $_ := set $settings "sources" $sources -}}
{{- if .Values.router.admin.enabled -}}
{{- $_ := set $settings "admin" (dict "address" "0.0.0.0:8081" "tokenFile" "/etc/eventsink-admin/token") -}}
{{- end -}}
{{- with include "eventsink.egressSettings" . | fromYaml -}}{{- $_ := set $settings "egress" . -}}{{- end -}}
{{- mergeOverwrite $settings .Values.router.config | toYaml -}}
{{- end -}}

{{- define "eventsink.restSettings" -}}
{{- $settings := dict "address" "0.0.0.0:8082" "monitor" (dict "address" "0.0.0.0:9090") -}}
{{- $_ := set $settings "keys" (dict "namespace" .Release.Namespace "secret" (include "eventsink.restKeysSecret" .)) -}}
{{- if .Values.router.admin.enabled -}}
{{- $url := printf "http://%s-router-admin:8081" (include "eventsink.fullname" .) -}}
{{- $_ := set $settings "router" (dict "url" $url "tokenFile" "/etc/eventsink-admin/token") -}}
{{- end -}}
{{- with .Values.slack.app -}}
{{- if and .clientId (hasSuffix "/v1/slack/callback" .redirectUrl) -}}
{{- $install := dict "clientId" .clientId "redirectUrl" .redirectUrl -}}
{{- if $.Values.rest.stateKey.secretName -}}
{{- $_ := set $install "stateKeyFile" "/etc/eventsink-state/key" -}}
{{- end -}}
{{- $_ := set $settings "slackInstall" $install -}}
{{- end -}}
{{- end -}}
{{- with .Values.namespaces -}}{{- $_ := set $settings "namespaces" . -}}{{- end -}}
{{- mergeOverwrite $settings .Values.rest.config | toYaml -}}
{{- end -}}

{{- define "eventsink.eventsSettings" -}}
{{- $tls := .Values.router.tls.secretName -}}
{{- $url := printf "%s://%s-router:8080/v1/alerts" (ternary "https" "http" (not (empty $tls))) (include "eventsink.fullname" .) -}}
{{- $router := dict "url" (print $url "/kubernetes-events") "tokenFile" "/etc/eventsink-tokens/kubernetes-events" -}}
{{- if and $tls .Values.events.tlsAuthorityKey -}}{{- $_ := set $router "caFile" "/etc/eventsink-router-ca/ca.crt" -}}{{- end -}}
{{- $settings := dict "monitor" (dict "address" "0.0.0.0:9090") "router" $router -}}
{{- with .Values.events.policyReports -}}
{{- $source := merge (dict "url" (print $url "/policy-reports") "tokenFile" "/etc/eventsink-tokens/policy-reports") $router -}}
{{- $_ := set $settings "policyReports" (dict "groups" . "router" $source) -}}
{{- end -}}
{{- $name := include "eventsink.partName" (dict "root" $ "part" "events") -}}
{{- if ne $name "eventsink-events" -}}
{{- $_ := set $settings "leaderElection" (dict "leaseName" (printf "%s-leader" $name)) -}}
{{- $_ := set $settings "checkpoint" (dict "name" (printf "%s-checkpoint" $name)) -}}
{{- end -}}
{{- $namespaces := list -}}
{{- range .Values.namespaces -}}{{- $namespaces = append $namespaces .name -}}{{- end -}}
{{- with $namespaces -}}{{- $_ := set $settings "namespaces" . -}}{{- end -}}
{{- mergeOverwrite $settings .Values.events.config | toYaml -}}
{{- end -}}
