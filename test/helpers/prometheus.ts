import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { stringify } from 'yaml'
import { z } from 'zod'
import { eventually, temporaryFolder } from './gateway.ts'
import { closedPort } from './ports.ts'
import { ROOT } from './process.ts'

export const ALERT_RULES_PATH = join(ROOT, 'deploy/prometheus/alerts.yaml')

export const hasPrometheus = (): boolean =>
  ['prometheus', 'promtool'].every((program) => spawnSync(program, ['--version']).status === 0)

/** Runs promtool in the folder of the alert rules, and returns its output. @throws if it reports an error */
export const promtool = (...args: readonly string[]): string => {
  const { status, stdout, stderr } = spawnSync('promtool', args, {
    cwd: join(ROOT, 'deploy/prometheus'),
    encoding: 'utf8',
  })
  if (status !== 0) throw new Error(stdout + stderr)
  return stdout
}

const answerSchema = z.object({
  data: z.object({ alerts: z.array(z.object({ labels: z.record(z.string(), z.string()), state: z.string() })) }),
})

// All gateways run in the process of the test, so a scrape on a busy machine takes more than half a second.
const SCRAPE_INTERVAL = '1s'
/** Longer than one scrape that a busy machine misses. */
const ALERT_FOR = '6s'

/**
 * A real Prometheus with the rules of deploy/, but with short durations, so that alerts fire within seconds.
 * @param targets URLs of gateways' metrics, by the instance name in alerts
 */
export const startPrometheus = async (t: TestContext, targets: ReadonlyMap<string, string>) => {
  const folder = await temporaryFolder(t)
  const rules = readFileSync(ALERT_RULES_PATH, 'utf8')
    .replace(/for: \w+/g, `for: ${ALERT_FOR}`)
    .replace('_age_seconds > 900', '_age_seconds > 1')
  writeFileSync(join(folder, 'rules.yaml'), rules)
  const config = {
    global: { scrape_interval: SCRAPE_INTERVAL, scrape_timeout: SCRAPE_INTERVAL, evaluation_interval: SCRAPE_INTERVAL },
    rule_files: ['rules.yaml'],
    scrape_configs: [
      {
        job_name: 'domain-task-gateway',
        static_configs: [...targets].map(([instance, url]) => ({ targets: [new URL(url).host], labels: { instance } })),
      },
    ],
  }
  writeFileSync(join(folder, 'prometheus.yaml'), stringify(config))
  const port = await closedPort()
  const flags = {
    'config.file': join(folder, 'prometheus.yaml'),
    'storage.tsdb.path': join(folder, 'data'),
    'web.listen-address': `127.0.0.1:${port}`,
    'log.level': 'error',
  }
  const args = Object.entries(flags).map(([name, value]) => `--${name}=${value}`)
  const child = spawn('prometheus', args, { stdio: 'ignore' })
  const exited = once(child, 'exit')
  t.after(async () => {
    child.kill('SIGKILL')
    await exited
  })
  const url = `http://127.0.0.1:${port}`
  await eventually(async () => ((await fetch(`${url}/-/ready`).catch(() => null))?.status === 200 ? true : undefined))

  return {
    /** The firing alerts: name and instance. */
    firing: async (): Promise<readonly string[]> => {
      const { data } = answerSchema.parse(await (await fetch(`${url}/api/v1/alerts`)).json())
      return data.alerts
        .filter(({ state }) => state === 'firing')
        .map(({ labels }) => `${labels.alertname} of ${labels.instance}`)
    },
  }
}
