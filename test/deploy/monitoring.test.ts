import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { parse } from 'yaml'
import { API_KEYS, asOperator, asReader, startGateway, temporaryFolder } from '../helpers/gateway.ts'
import { ROOT } from '../helpers/process.ts'

const read = (path: string): string => readFileSync(join(ROOT, path), 'utf8')

interface Rule {
  readonly alert: string
  readonly annotations: { readonly summary: string; readonly runbook_url: string }
}

const rules: readonly Rule[] = parse(read('deploy/prometheus/alerts.yaml')).groups.flatMap(
  ({ rules }: { rules: readonly Rule[] }) => rules,
)

test('runbook_url of each alert leads to the section of its name', () => {
  assert.ok(rules.length > 15)
  for (const { alert, annotations } of rules) {
    const [path = '', anchor] = annotations.runbook_url.split('#')
    assert.ok(existsSync(join(ROOT, path)), path)
    // GitHub and GitLab derive the anchor of a heading of one word so.
    assert.equal(anchor, alert.toLowerCase())
    assert.ok(read(path).split('\n').includes(`### ${alert}`), alert)
  }
})

test('the command of docs/deployment.md makes absolute links of them', async (t) => {
  const [, script = '', base = ''] =
    /^sed -i '(s\|[^']*\|&(https:[^']*)\|)' alerts\.yaml$/m.exec(read('docs/deployment.md')) ?? []
  const path = join(await temporaryFolder(t), 'alerts.yaml')
  await writeFile(path, read('deploy/prometheus/alerts.yaml'))
  const { stdout } = spawnSync('sed', [script, path], { encoding: 'utf8' })
  const links = [...stdout.matchAll(/runbook_url: (.*)/g)].map(([, link]) => link)
  assert.deepEqual(
    links,
    rules.map(({ annotations }) => base + annotations.runbook_url),
  )
})

interface Metric {
  readonly name: string
  readonly type: string
  readonly labels: readonly string[]
}

const byName = (a: Metric, b: Metric): number => (a.name < b.name ? -1 : 1)

/** The rows of the tables of docs/deployment.md that begin with the name of a metric. */
const documented = (): readonly Metric[] =>
  [
    ...read('docs/deployment.md').matchAll(
      /^\| (`[a-z0-9_]+`(?:, `[a-z0-9_]+`)*) \| (counter|gauge|histogram) \| ([^|]+) \|/gm,
    ),
  ]
    .flatMap(([, names = '', type = '', labels = '']) =>
      quoted(names).map((name) => ({ name, type, labels: [...quoted(labels)].sort() })),
    )
    .sort(byName)

const quoted = (text: string): readonly string[] => [...text.matchAll(/`([^`]+)`/g)].map(([, name = '']) => name)

/** Labels by which a histogram divides one observation. */
const OF_BUCKETS = ['le']

/** Every metric; labels are null for one without a sample at that moment. */
const exposed = (text: string): readonly (Omit<Metric, 'labels'> & { readonly labels: readonly string[] | null })[] =>
  [...text.matchAll(/^# TYPE (\S+) (\w+)$/gm)].map(([, name = '', type = '']) => {
    const samples = [...text.matchAll(new RegExp(`^${name}(?:_bucket|_count|_sum)?(?:\\{(.*)\\})? \\S+$`, 'gm'))]
    const labels = samples.flatMap(([, pairs = '']) => [...pairs.matchAll(/(\w+)="/g)].map(([, label = '']) => label))
    const own = [...new Set(labels)].filter((label) => !OF_BUCKETS.includes(label)).sort()
    return { name, type, labels: samples.length > 0 ? own : null }
  })

test('docs/deployment.md lists every metric with its type and labels, and no other', async (t) => {
  const path = join(await temporaryFolder(t), 'keys.json')
  await writeFile(path, API_KEYS)
  const env = { API_KEYS: undefined, API_KEYS_FILE: path, RATE_LIMIT_READ_MAX: '1' }
  const { api, adminUrl, upstream } = await startGateway(t, { env, readFile: () => API_KEYS })
  await api.delete(`/tasks/${upstream.addTask()}`).set(asOperator)
  for (const _ of ['within the limit', 'over it']) await api.get('/me').set(asReader)

  const found = exposed(await (await fetch(`${adminUrl}/metrics`)).text())

  const listed = documented()
  const nameAndType = ({ name, type }: Pick<Metric, 'name' | 'type'>): string => `${name} ${type}`
  assert.deepEqual(listed.map(nameAndType), found.map(nameAndType).sort())
  for (const { name, labels } of listed) {
    const seen = found.find((metric) => metric.name === name)?.labels ?? null
    if (seen !== null) assert.deepEqual(labels, seen, name)
    else assert.ok(labels.length === 0 || name.startsWith('nodejs_'), `${name} has no sample that shows its labels`)
  }
})
