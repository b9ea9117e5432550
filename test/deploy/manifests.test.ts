import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { promisify } from 'node:util'
import { parse, parseAllDocuments } from 'yaml'
import { parseConfig, SETTING_NAMES } from '../../src/config.ts'
import { temporaryFolder } from '../helpers/gateway.ts'
import { ROOT } from '../helpers/process.ts'

const run = promisify(execFile)

const DEPLOY = join(ROOT, 'deploy')
const read = (path: string): string => readFileSync(join(DEPLOY, path), 'utf8')

interface Resource {
  readonly apiVersion: string
  readonly kind: string
  readonly metadata: { readonly name: string; readonly labels?: Readonly<Record<string, string>> }
}

/** Every document of every file that a kustomization lists, as they stand. */
const resourcesOf = (folder: string): readonly Resource[] =>
  parse(read(`${folder}/kustomization.yaml`)).resources.flatMap((file: string) =>
    parseAllDocuments(read(`${folder}/${file}`)).map((document) => document.toJS()),
  )

const BASE = resourcesOf('kubernetes')
const MONITOR = resourcesOf('components/service-monitor')

/** Where the published schemas are, as types, which know every field, and as validators, which know every value. */
const moduleOf = (apiVersion: string): string =>
  apiVersion.startsWith('monitoring.coreos.com/')
    ? `@kubernetes-models/prometheus-operator/${apiVersion}`
    : `kubernetes-models/${apiVersion}`

const programOf = (resources: readonly Resource[]): string =>
  resources
    .map(({ apiVersion, kind, ...rest }, at) =>
      [
        `import { ${kind} as R${at} } from '${moduleOf(apiVersion)}'`,
        `new R${at}(${JSON.stringify(rest)}).validate()`,
        '',
      ].join('\n'),
    )
    .join('')

/** Throws with what the compiler or the validators find. */
const validate = async (t: TestContext, resources: readonly Resource[]): Promise<void> => {
  const folder = await temporaryFolder(t)
  await symlink(join(ROOT, 'node_modules'), join(folder, 'node_modules'))
  await writeFile(join(folder, 'package.json'), '{"type":"module"}')
  await writeFile(join(folder, 'manifests.ts'), programOf(resources))
  const tsc = join(ROOT, 'node_modules/typescript/bin/tsc')
  const flags = ['--noEmit', '--strict', '--skipLibCheck', '--module', 'nodenext', '--target', 'es2024']
  await run(process.execPath, [tsc, ...flags, 'manifests.ts'], { cwd: folder }).catch(({ stdout }) => {
    throw new Error(stdout)
  })
  await run(process.execPath, ['manifests.ts'], { cwd: folder })
}

test('each manifest is what the published schemas say', async (t) => {
  assert.deepEqual(BASE.map(({ kind }) => kind).sort(), [
    ...['Deployment', 'HorizontalPodAutoscaler', 'NetworkPolicy', 'PodDisruptionBudget', 'Service', 'Service'],
    'ServiceAccount',
  ])
  await validate(t, [...BASE, ...MONITOR])
})

test('a field that no schema knows, and a value that none allows, are found', async (t) => {
  const [budget] = BASE.filter(({ kind }) => kind === 'PodDisruptionBudget')
  assert.ok(budget)
  const misspelt = { ...budget, spec: { maxUnavailabel: 1 } }
  await assert.rejects(validate(t, [misspelt]), /maxUnavailabel/)
  const wrong = JSON.parse(JSON.stringify(budget).replace('"maxUnavailable":1', '"maxUnavailable":[1]'))
  await assert.rejects(validate(t, [wrong]))
})

const find = (kind: string) => Object(BASE.find((resource) => resource.kind === kind)).spec

const POD = find('Deployment').template.spec
const [CONTAINER] = POD.containers

test('kustomize lists every manifest', () => {
  const listed = [...parse(read('kubernetes/kustomization.yaml')).resources, 'kustomization.yaml', 'settings.env']
  assert.deepEqual(readdirSync(join(DEPLOY, 'kubernetes')).sort(), listed.sort())
})

test('the pod runs as nobody, with nothing but what it needs', () => {
  const { securityContext } = CONTAINER
  assert.deepEqual(securityContext, {
    allowPrivilegeEscalation: false,
    readOnlyRootFilesystem: true,
    capabilities: { drop: ['ALL'] },
  })
  const { runAsNonRoot, runAsUser, seccompProfile } = POD.securityContext
  assert.deepEqual([runAsNonRoot, runAsUser, seccompProfile], [true, 65532, { type: 'RuntimeDefault' }])
  assert.deepEqual([POD.automountServiceAccountToken, POD.hostNetwork, POD.hostPID], [false, undefined, undefined])
})

const settingsIn = (): Readonly<Record<string, string>> => ({
  ...Object.fromEntries(
    read('kubernetes/settings.env')
      .split('\n')
      .filter((line) => /^[A-Z]/.test(line))
      .map((line) => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]),
  ),
  ...Object.fromEntries(CONTAINER.env.map(({ name, value }: { name: string; value: string }) => [name, value])),
})

/** What the files of its secrets would hold. */
const SECRETS: Readonly<Record<string, string>> = {
  'access-key-id': 'id',
  'access-key-secret': 'secret',
  'api-keys.json': JSON.stringify([{ name: 'a', sha256: '0'.repeat(64), scopes: ['tasks:cancel'] }]),
  'audit-url': 'postgres://gateway:x@postgresql/record',
  'audit-admin-url': 'postgres://record_owner:x@postgresql/record',
  'redis-url': 'redis://:x@redis:6379',
}

test('its settings are sound, and no secret is in its environment', () => {
  const settings = settingsIn()
  assert.deepEqual(
    Object.keys(settings).filter((name) => !SETTING_NAMES.includes(name)),
    [],
  )
  const config = parseConfig(settings, (path) => SECRETS[path.replace('/run/secrets/gateway/', '')] ?? '')
  assert.equal(config.audit.kind, 'postgres')
  assert.ok(Object.keys(settings).every((name) => !/SECRET$|^API_KEYS$|^REDIS_URL$/.test(name)))
  // The grace of the pod covers the delay and the grace of the process.
  const { delayMs, graceMs } = config.shutdown
  assert.ok(POD.terminationGracePeriodSeconds * 1000 > delayMs + graceMs)
})

test('the quota is shared out among the most replicas that there can be', () => {
  const { maxReplicas, minReplicas } = find('HorizontalPodAutoscaler')
  const { replicas, strategy } = find('Deployment')
  assert.ok(Number(settingsIn().UPSTREAM_MAX_RPS) * (maxReplicas + strategy.rollingUpdate.maxSurge) <= 100)
  // A number here would take back what the autoscaler has found, at each release.
  assert.equal(replicas, undefined)
  assert.ok(minReplicas >= 2)
})

test('every selector finds the pod, and ports are those that it has', () => {
  const labels = { 'app.kubernetes.io/name': 'domain-task-gateway' }
  const services = BASE.filter(({ kind }) => kind === 'Service').map((service) => Object(service).spec)
  for (const { selector } of services) assert.deepEqual(selector, labels)
  for (const kind of ['Deployment', 'PodDisruptionBudget']) assert.deepEqual(find(kind).selector.matchLabels, labels)
  assert.deepEqual(find('NetworkPolicy').podSelector.matchLabels, labels)
  const names = CONTAINER.ports.map(({ name }: { name: string }) => name)
  for (const { ports } of services) for (const { targetPort } of ports) assert.ok(names.includes(targetPort))
  for (const probe of ['startupProbe', 'livenessProbe', 'readinessProbe']) {
    assert.ok(names.includes(CONTAINER[probe].httpGet.port))
  }
})

const compose = parse(read('compose.yaml'), { merge: true })

test('compose names what there is, and gives the gateway sound settings', () => {
  const { services, networks, volumes, configs } = compose
  for (const [name, service] of Object.entries<Record<string, never>>(services)) {
    for (const network of service.networks ?? []) assert.ok(network in networks, `${name}: ${network}`)
    for (const other of Object.keys(service.depends_on ?? {})) assert.ok(other in services, `${name}: ${other}`)
    for (const { source } of service.configs ?? []) assert.ok(String(source) in configs, `${name}: ${source}`)
    for (const volume of service.volumes ?? [])
      assert.ok((String(volume).split(':')[0] ?? '') in volumes, `${name}: ${volume}`)
  }
  for (const { file } of Object.values<{ file?: string }>(configs)) if (file !== undefined) assert.ok(read(file) !== '')
  const { environment, deploy } = services.gateway
  const config = parseConfig(environment, () => '')
  assert.deepEqual([config.audit.kind, config.rateLimit.storeFailure, deploy.replicas], ['postgres', 'local', 2])
  assert.equal(services.upstream.build.target, 'sandbox')
})
