import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { promisify } from 'node:util'
import { parse, parseAllDocuments } from 'yaml'
import { parseSubnets } from '../../src/addresses.ts'
import { parseAuditAdmin, parseConfig } from '../../src/config.ts'
import { SETTING_NAMES } from '../../src/settings.ts'
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

/** Throws with the findings of the compiler or the validators. */
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

test('each manifest conforms to the published schemas', async (t) => {
  assert.deepEqual(BASE.map(({ kind }) => kind).sort(), [
    ...['CronJob', 'Deployment', 'HorizontalPodAutoscaler', 'Job', 'NetworkPolicy', 'NetworkPolicy'],
    ...['PodDisruptionBudget', 'Service', 'Service', 'ServiceAccount'],
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

const {
  spec: POD,
  metadata: { labels: POD_LABELS },
} = find('Deployment').template
const [CONTAINER] = POD.containers

test('kustomize lists every manifest', () => {
  const listed = [...parse(read('kubernetes/kustomization.yaml')).resources, 'kustomization.yaml', 'settings.env']
  assert.deepEqual(readdirSync(join(DEPLOY, 'kubernetes')).sort(), listed.sort())
})

const JOBS = { migrate: find('Job').template, prune: find('CronJob').jobTemplate.spec.template } as const

test('each pod runs without privileges, with only the permissions that it needs', () => {
  for (const pod of [POD, JOBS.migrate.spec, JOBS.prune.spec]) {
    assert.equal(pod.containers.length, 1)
    assert.deepEqual(pod.containers[0].securityContext, {
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      capabilities: { drop: ['ALL'] },
    })
    const { runAsNonRoot, runAsUser, seccompProfile } = pod.securityContext
    assert.deepEqual([runAsNonRoot, runAsUser, seccompProfile], [true, 65532, { type: 'RuntimeDefault' }])
    assert.deepEqual([pod.automountServiceAccountToken, pod.hostNetwork, pod.hostPID], [false, undefined, undefined])
  }
})

test('only the jobs hold the password of the owner of the tables, and no other secret', () => {
  assert.doesNotMatch(JSON.stringify([POD, settingsIn()]), /AUDIT_ADMIN_URL|audit-admin/)
  for (const [name, { spec }] of Object.entries(JOBS)) {
    const [{ command, env }] = spec.containers
    assert.deepEqual(command, ['/sbin/tini', '--', '/nodejs/bin/node', `/app/dist/bin/${name}.js`])
    assert.ok(existsSync(join(ROOT, `src/bin/${name}.ts`)))
    assert.deepEqual(
      env.map((one: { name: string }) => one.name),
      ['AUDIT_ADMIN_URL_FILE'],
    )
    assert.deepEqual(
      spec.volumes.map((volume: { secret: { secretName: string } }) => volume.secret.secretName),
      ['gateway-audit-admin'],
    )
    const given = Object.fromEntries(env.map(({ name, value }: { name: string; value: string }) => [name, value]))
    const { adminUrl, retentionDays } = parseAuditAdmin({ ...settingsFile(), ...given }, () => OWNER_URL)
    assert.deepEqual([adminUrl.reveal(), retentionDays], [OWNER_URL, 365])
  }
})

test('no selector of the gateway finds the pods of the jobs', () => {
  const labels = { 'app.kubernetes.io/name': 'domain-task-gateway-record' }
  for (const { metadata } of Object.values(JOBS)) assert.deepEqual(metadata.labels, labels)
  const [own] = parse(read('kubernetes/kustomization.yaml')).labels
  assert.deepEqual([own.includeSelectors, own.includeTemplates], [false, undefined])
})

test('no proxy is trusted until the operator names it', () => {
  const { trustProxy } = configOf(settingsIn())
  for (const address of [
    '10.0.0.1',
    '172.16.0.1',
    '192.168.0.1',
    '100.64.0.1',
    '127.0.0.1',
    '203.0.113.1',
    'fd00::1',
  ]) {
    assert.equal(trustProxy.has(address), false, address)
  }
})

/** The blocks that a policy lets pods reach by address. */
const reachable = (policy: Resource) =>
  Object(policy).spec.egress.flatMap(({ to }: { to: { ipBlock?: { cidr: string; except: readonly string[] } }[] }) =>
    to.flatMap(({ ipBlock }) => (ipBlock === undefined ? [] : [ipBlock])),
  )

const POLICIES = BASE.filter(({ kind }) => kind === 'NetworkPolicy')

test('no pod reaches a private network or a place where a cloud hands out credentials by its address', () => {
  const [gateway, record] = POLICIES
  assert.ok(gateway && record)
  assert.deepEqual(reachable(record), [])
  const [{ cidr, except }, ...others] = reachable(gateway)
  assert.deepEqual([cidr, others], ['0.0.0.0/0', []])
  const denied = parseSubnets(except.join())
  const [metadata, networks] = [
    ['100.100.100.200', '169.254.169.254', '169.254.170.2', '192.0.0.192', '168.63.129.16'],
    ['100.64.0.1', '100.127.255.254', '10.1.2.3', '172.31.0.1', '192.168.1.1', '127.0.0.1', '198.18.0.1', '240.0.0.1'],
  ]
  for (const address of [...metadata, ...networks]) assert.equal(denied?.has(address), true, address)
  for (const address of ['47.88.1.1', '100.63.255.255', '100.128.0.1', '168.63.129.17']) {
    assert.equal(denied?.has(address), false, address)
  }
})

test('each policy is for its own pods', () => {
  const [gateway, record] = POLICIES.map((policy) => Object(policy).spec.podSelector.matchLabels)
  assert.deepEqual(gateway, POD_LABELS)
  assert.deepEqual(record, JOBS.migrate.metadata.labels)
})

const settingsFile = (): Readonly<Record<string, string>> =>
  Object.fromEntries(
    read('kubernetes/settings.env')
      .split('\n')
      .filter((line) => /^[A-Z]/.test(line))
      .map((line) => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]),
  )

const settingsIn = (): Readonly<Record<string, string>> => ({
  ...settingsFile(),
  ...Object.fromEntries(CONTAINER.env.map(({ name, value }: { name: string; value: string }) => [name, value])),
})

/** The contents of the files of its secrets. */
const SECRETS: Readonly<Record<string, string>> = {
  'access-key-id': 'id',
  'access-key-secret': 'secret',
  'api-keys.json': JSON.stringify([{ name: 'a', sha256: '0'.repeat(64), scopes: ['tasks:cancel'] }]),
  'audit-url': 'postgres://gateway:x@postgresql/record',
  'redis-url': 'redis://:x@redis:6379',
}
const OWNER_URL = 'postgres://record_owner:x@postgresql/record'

const configOf = (settings: Readonly<Record<string, string>>) =>
  parseConfig(settings, (path) => SECRETS[path.replace('/run/secrets/gateway/', '')] ?? '')

test('its settings are sound, and no secret is in its environment', () => {
  const settings = settingsIn()
  assert.deepEqual(
    Object.keys(settings).filter((name) => !SETTING_NAMES.includes(name)),
    [],
  )
  const config = configOf(settings)
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
  // A number here would reset the choice of the autoscaler at each release.
  assert.equal(replicas, undefined)
  assert.ok(minReplicas >= 2)
})

test('every selector finds the pod, and ports are those that it has', () => {
  const labels = { 'app.kubernetes.io/name': 'domain-task-gateway' }
  assert.deepEqual(POD_LABELS, labels)
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

test('probes use the admin port, which the kubelet reaches by the address of the pod', () => {
  const { admin } = parseConfig(settingsIn(), (path) => SECRETS[path.replace('/run/secrets/gateway/', '')] ?? '')
  for (const probe of ['startupProbe', 'livenessProbe', 'readinessProbe']) {
    const { containerPort } = CONTAINER.ports.find(
      ({ name }: { name: string }) => name === CONTAINER[probe].httpGet.port,
    )
    assert.equal(containerPort, admin.port, probe)
  }
  assert.equal(admin.host, '0.0.0.0')
})

const compose = parse(read('compose.yaml'), { merge: true })

/** Reads a file that compose puts into a container of that service; others are not there. */
const secretOf =
  (service: { readonly secrets: readonly string[] }) =>
  (path: string): string => {
    const name = path.replace('/run/secrets/', '')
    if (!service.secrets.includes(name)) throw new Error(`${path} is not there`)
    return read(compose.secrets[name].file)
  }

test('in compose passwords come as files, each to the services that need it', () => {
  const { services, secrets } = compose
  for (const { environment = {}, command, healthcheck } of Object.values<Readonly<Record<string, object>>>(services)) {
    assert.doesNotMatch(
      JSON.stringify([environment, command, healthcheck]),
      /:\w+@|requirepass|"-a"|sandbox-key-secret/,
    )
    for (const [variable, value] of Object.entries(environment)) {
      if (/(SECRET|PASSWORD|_URL)$/.test(variable)) assert.ok(value === '' || /^https?:/.test(value), variable)
    }
  }
  const holders = (secret: string): readonly string[] =>
    Object.entries<{ secrets?: readonly string[] }>(services).flatMap(([name, service]) =>
      service.secrets?.includes(secret) ? [name] : [],
    )
  assert.deepEqual(Object.fromEntries(Object.keys(secrets).map((secret) => [secret, holders(secret)])), {
    'access-key-secret': ['gateway'],
    'audit-url': ['gateway'],
    'audit-admin-url': ['migrate'],
    'redis-url': ['gateway'],
    'redis-password': ['redis'],
    'redis.conf': ['redis'],
    'postgres-password': ['postgres'],
  })
  const url = new URL(read(secrets['redis-url'].file).trim())
  const password = read(secrets['redis-password'].file).trim()
  assert.equal(url.password, password)
  assert.match(read(secrets['redis.conf'].file), new RegExp(`^requirepass ${password}$`, 'm'))
  const { adminUrl } = parseAuditAdmin(services.migrate.environment, secretOf(services.migrate))
  assert.match(
    compose.configs.roles.content,
    new RegExp(`record_owner LOGIN PASSWORD '${new URL(adminUrl.reveal()).password}'`),
  )
})

test('compose refers to files that exist, and gives the gateway valid settings', () => {
  const { services, networks, volumes, configs, secrets } = compose
  for (const [name, service] of Object.entries<Record<string, never>>(services)) {
    for (const network of service.networks ?? []) assert.ok(network in networks, `${name}: ${network}`)
    for (const other of Object.keys(service.depends_on ?? {})) assert.ok(other in services, `${name}: ${other}`)
    for (const { source } of service.configs ?? []) assert.ok(String(source) in configs, `${name}: ${source}`)
    for (const secret of service.secrets ?? []) assert.ok(secret in secrets, `${name}: ${secret}`)
    for (const volume of service.volumes ?? [])
      assert.ok((String(volume).split(':')[0] ?? '') in volumes, `${name}: ${volume}`)
  }
  for (const { file } of Object.values<{ file?: string }>(configs)) if (file !== undefined) assert.ok(read(file) !== '')
  const { environment, deploy } = services.gateway
  const config = parseConfig(environment, secretOf(services.gateway))
  assert.deepEqual([config.audit.kind, config.rateLimit.storeFailure, deploy.replicas], ['postgres', 'local', 2])
  assert.equal(services.upstream.build.target, 'sandbox')
})
