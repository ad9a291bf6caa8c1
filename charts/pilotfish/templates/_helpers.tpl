{{- define "pilotfish.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "pilotfish.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else if contains (include "pilotfish.name" .) .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "pilotfish.name" .) | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "pilotfish.selectorLabels" -}}
app.kubernetes.io/name: {{ include "pilotfish.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "pilotfish.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name (.Chart.Version | replace "+" "_") }}
{{ include "pilotfish.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/component: operator
app.kubernetes.io/part-of: pilotfish
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Labels of what a Prometheus selects: (list root labels). */}}
{{- define "pilotfish.monitorLabels" -}}
{{- include "pilotfish.labels" (index . 0) }}
{{- with index . 1 }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "pilotfish.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "pilotfish.fullname" .) -}}
{{- else -}}
{{- .Values.serviceAccount.name | default "default" -}}
{{- end -}}
{{- end -}}

{{/* An image reference: (list root image). */}}
{{- define "pilotfish.image" -}}
{{- $root := index . 0 -}}{{- $image := index . 1 -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $image.repository $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $image.repository ($image.tag | default $root.Chart.AppVersion) -}}
{{- end -}}
{{- end -}}

{{/* What the operator may do with ModelDeployments and with the kinds that it makes. One rule a kind, no wildcard. */}}
{{- define "pilotfish.rules" -}}
- apiGroups: [pilotfish.dev]
  resources: [modeldeployments]
  verbs: [get, list, watch]
- apiGroups: [pilotfish.dev]
  resources: [modeldeployments/status]
  verbs: [update]
# Children name their owner with blockOwnerDeletion, which some clusters allow only to who may update finalizers.
- apiGroups: [pilotfish.dev]
  resources: [modeldeployments/finalizers]
  verbs: [update]
- apiGroups: [""]
  resources: [configmaps, persistentvolumeclaims, services]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch]
- apiGroups: [apps]
  resources: [controllerrevisions, deployments]
  verbs: [get, list, watch, create, patch, delete]
# A pod is a Deployment's by the uid of the ReplicaSet between them.
- apiGroups: [apps]
  resources: [replicasets]
  verbs: [list, watch]
- apiGroups: [batch]
  resources: [jobs]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch, delete]
# It scales ModelDeployments by Kubernetes' own hand; what it changes, the operator obeys.
- apiGroups: [autoscaling]
  resources: [horizontalpodautoscalers]
  verbs: [get, list, watch, create, patch, delete]
# Who may connect to a model. Policies add up: what the operator removes or narrows is its own alone.
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [get, create, patch]
{{- if not .Values.watchNamespaces }}
# What a new revision finds free. Nodes belong to no namespace, so an operator of named namespaces finds out by trying.
- apiGroups: [""]
  resources: [nodes, resourcequotas]
  verbs: [list]
{{- end }}
{{- if .Values.gatewayAPI.enabled }}
- apiGroups: [gateway.networking.k8s.io]
  resources: [grpcroutes, httproutes]
  verbs: [get, list, watch, create, patch, delete]
{{- end }}
{{- end -}}

{{/* The policies about ModelDeployments are for the namespaces that the operator serves. */}}
{{- define "pilotfish.admissionNamespaces" -}}
{{- with .Values.watchNamespaces -}}
matchResources:
  namespaceSelector:
    matchExpressions:
      - key: kubernetes.io/metadata.name
        operator: In
        values: {{- toYaml . | nindent 10 }}
{{- end }}
{{- end -}}

{{/* Every field of a ModelDeployment that says where something lies. */}}
{{- define "pilotfish.sourceFields" -}}
- spec.model.uri
- spec.model.samples.uri
- spec.optimization.fineTune.data.uri
- spec.optimization.prune.fineTune.data.uri
- spec.optimization.distill.data.uri
- spec.optimization.distill.teacher.uri
- spec.storage.bucket.uri
{{- end -}}

{{/* Peers of a NetworkPolicy: every address but link-local ones, where clouds keep the credentials of their machines. */}}
{{- define "pilotfish.anywhere" -}}
- ipBlock:
    cidr: 0.0.0.0/0
    except: [169.254.0.0/16]
- ipBlock:
    cidr: ::/0
    except: ["fe80::/10", "fd00:ec2::254/128"]
{{- end -}}

{{/* What `pilotfish doctor` reads in the namespaces of ModelDeployments. */}}
{{- define "pilotfish.doctorRules" -}}
- apiGroups: [pilotfish.dev]
  resources: [modeldeployments]
  verbs: [list]
- apiGroups: [""]
  resources: [persistentvolumeclaims]
  verbs: [list]
- apiGroups: [gateway.networking.k8s.io]
  resources: [gateways]
  verbs: [get]
{{- end -}}
