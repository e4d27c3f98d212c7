{{/* A name of at most N characters that DNS takes; one that had to be changed ends with a mark of what it was. */}}
{{- define "pmsync.label" -}}
{{- $plain := index . 0 | lower | replace "." "-" | replace "_" "-" -}}
{{- if and (eq $plain (index . 0)) (le (len $plain) (int (index . 1))) (not (hasSuffix "-" $plain)) -}}
{{- $plain -}}
{{- else -}}
{{- printf "%s-%s" ($plain | trunc (int (sub (index . 1) 7)) | trimSuffix "-") (index . 0 | sha256sum | trunc 6) -}}
{{- end -}}
{{- end -}}

{{- define "pmsync.fullname" -}}
{{- $name := contains .Chart.Name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name .Chart.Name) -}}
{{- include "pmsync.label" (list $name 30) -}}
{{- end -}}

{{/* What selects the pods of a component, and of a source if one is named: (root, component, source). */}}
{{- define "pmsync.selector" -}}
app.kubernetes.io/name: {{ (index . 0).Chart.Name }}
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- with index . 2 }}
pmsync/source: {{ . }}
{{- end }}
{{- end -}}

{{- define "pmsync.labels" -}}
{{ include "pmsync.selector" . }}
app.kubernetes.io/version: {{ (index . 0).Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ (index . 0).Release.Service }}
helm.sh/chart: {{ printf "%s-%s" (index . 0).Chart.Name (index . 0).Chart.Version }}
{{- end -}}

{{- define "pmsync.image" -}}
{{- with .Values.image -}}
{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end -}}
{{- end -}}

{{/*
The metadata and spec of a pod: (root, component, source's label, args, resources, secrets, extra).
`extra`: serves (it has health), pages, member (a name among those that share the work), job, first (args of what runs before).
Pods start anew when what they read at their start has changed: all of the configuration but projects and people.
*/}}
{{- define "pmsync.pod" -}}
{{- $root := .root -}}
metadata:
  labels:
    {{- include "pmsync.selector" (list $root .component .label) | nindent 4 }}
  annotations:
    checksum/config: {{ omit $root.Values.config "projects" "people" | toJson | sha256sum }}
spec:
  {{- if not .job }}
  serviceAccountName: {{ include "pmsync.fullname" $root }}
  {{- end }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  terminationGracePeriodSeconds: 30
  {{- with $root.Values.imagePullSecrets }}
  imagePullSecrets:
    {{- range . }}
    - name: {{ . }}
    {{- end }}
  {{- end }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 10001
    runAsGroup: 10001
    fsGroup: 10001
    fsGroupChangePolicy: OnRootMismatch
    seccompProfile:
      type: RuntimeDefault
  {{- if .job }}
  restartPolicy: Never
  {{- else }}
  topologySpreadConstraints:
    - maxSkew: 1
      topologyKey: kubernetes.io/hostname
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "pmsync.selector" (list $root .component .label) | nindent 10 }}
  {{- end }}
  {{- with $root.Values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $root.Values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $root.Values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .first }}
  initContainers:
    {{- range . }}
    - name: {{ join "-" . }}
      {{- include "pmsync.container" (merge (dict "args" .) (omit $ "first")) | nindent 6 }}
    {{- end }}
  {{- end }}
  containers:
    - name: {{ .component }}
      {{- include "pmsync.container" . | nindent 6 }}
  volumes:
    - name: config
      configMap:
        name: {{ .configMap | default (include "pmsync.fullname" $root) }}
    - name: tmp
      emptyDir:
        sizeLimit: 64Mi
    {{- with .secrets }}
    - name: secrets
      projected:
        defaultMode: 0440
        sources:
          {{- range . }}
          - secret:
              name: {{ . }}
          {{- end }}
    {{- end }}
{{- end -}}

{{/* A container of such a pod, but for its name. */}}
{{- define "pmsync.container" -}}
{{- $root := .root -}}
image: {{ include "pmsync.image" $root | quote }}
imagePullPolicy: {{ $root.Values.image.pullPolicy }}
args: {{ .args | toJson }}
env:
  - name: PMSYNC_CONFIG
    value: /etc/pmsync/pmsync.yaml
  {{- if .serves }}
  - name: PMSYNC_HEALTH__HOST
    value: 0.0.0.0
  - name: PMSYNC_HEALTH__PORT
    value: "8081"
  {{- end }}
  {{- if .pages }}
  - name: PMSYNC_WEB__HOST
    value: 0.0.0.0
  - name: PMSYNC_WEB__PORT
    value: {{ $root.Values.web.port | quote }}
  {{- end }}
  {{- if .member }}
  - name: PMSYNC_BUS__MEMBER
    valueFrom:
      fieldRef:
        fieldPath: metadata.name
  {{- end }}
  {{- range $name, $value := $root.Values.env }}
  - name: {{ $name }}
    value: {{ $value | quote }}
  {{- end }}
{{- if .serves }}
ports:
  - name: health
    containerPort: 8081
  {{- if .pages }}
  - name: pages
    containerPort: {{ $root.Values.web.port }}
  {{- end }}
# Only /healthz may end a pod: a database that is away is no reason to start anew.
startupProbe:
  httpGet: {path: /healthz, port: health}
  periodSeconds: 2
  timeoutSeconds: 5
  failureThreshold: 60
livenessProbe:
  httpGet: {path: /healthz, port: health}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 3
readinessProbe:
  httpGet: {path: /readyz, port: health}
  periodSeconds: 5
  timeoutSeconds: 5
{{- end }}
{{- if .pages }}
# Until every node knows that this pod is leaving, it still answers.
lifecycle:
  preStop:
    sleep:
      seconds: 5
{{- end }}
securityContext:
  runAsNonRoot: true
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
resources:
  {{- toYaml .resources | nindent 2 }}
volumeMounts:
  - name: config
    mountPath: /etc/pmsync
    readOnly: true
  - name: tmp
    mountPath: /tmp
  {{- if .secrets }}
  - name: secrets
    mountPath: /run/secrets/pmsync
    readOnly: true
  {{- end }}
{{- end -}}
