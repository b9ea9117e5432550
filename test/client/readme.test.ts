import assert from 'node:assert/strict'
import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync } from 'node:fs'
import { readFile, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { type TestContext, test } from 'node:test'
import { setTimeout as pause } from 'node:timers/promises'
import { promisify } from 'node:util'
import { build } from 'esbuild'
import { APP_HOST, openBrowser } from '../helpers/browser.ts'
import { CLIENT, installPacked } from '../helpers/client-package.ts'
import { asOperator, CANARIES, startGateway, temporaryFolder } from '../helpers/gateway.ts'
import { listenOn } from '../helpers/ports.ts'
import { ROOT } from '../helpers/process.ts'
import { requires } from '../helpers/requirements.ts'
import { SIGN_IN_ENV, sessionCookie } from '../helpers/session.ts'

const run = promisify(execFile)

const readClient = (): string => readFileSync(join(CLIENT, 'README.md'), 'utf8')

/** The one snippet of a README in that language that contains the text. */
const snippet = (language: string, text = '', readme = readClient()): string => {
  const all = [...readme.matchAll(new RegExp(`^\`\`\`${language}\n([^]*?)^\`\`\`$`, 'gm'))].map(
    ([, found = '']) => found,
  )
  const [found = '', ...more] = all.filter((each) => each.includes(text))
  assert.ok(found !== '' && more.length === 0, `${language} ${text}`)
  return found
}

/** Numbers of lines after which the reader is killed; 0: at once, or in the middle of a request that waits. */
const KILLS = [0, 12, 1, 0, 24, 6]
const WRITERS = 3

type Start = (folder: string, env: NodeJS.ProcessEnv) => ChildProcess

/** With all programs that it has started. */
const kill = ({ pid, exitCode, signalCode }: ChildProcess): void => {
  if (pid !== undefined && exitCode === null && signalCode === null) process.kill(-pid, 'SIGKILL')
}

/** A reader of outcomes that is killed repeatedly, while several callers cancel, prints each of them. */
const followWhileKilled = async (t: TestContext, folder: string, start: Start): Promise<void> => {
  const { url, api } = await startGateway(t)
  const expected = new Set<string>()
  const writing = { isOver: false }
  const write = async (): Promise<void> => {
    for (; !writing.isOver; await pause(20)) {
      const { body } = await api.delete('/tasks/absent').set(asOperator)
      expected.add(body.cancellationId)
    }
  }
  const writers = Array.from({ length: WRITERS }, write)

  const printed = new Set<string>()
  const env = { PATH: process.env.PATH, GATEWAY_URL: url, GATEWAY_API_KEY: CANARIES.auditorKey }
  const readUntil = async (isEnough: (lines: number) => boolean): Promise<void> => {
    const child = start(folder, env)
    t.after(() => kill(child))
    const closed = once(child, 'close')
    assert.ok(child.stdout)
    if (isEnough(0)) setTimeout(() => kill(child), Math.random() * 500)
    let lines = 0
    // To the end: what was printed before the kill counts.
    for await (const line of createInterface({ input: child.stdout })) {
      const [id] = /^[0-9a-f-]{36}(?= )/.exec(line) ?? []
      if (id !== undefined) printed.add(id)
      lines += 1
      if (isEnough(lines)) kill(child)
    }
    await closed
  }
  for (const lineCount of KILLS) await readUntil((lines) => lines >= lineCount)
  assert.ok(existsSync(join(folder, 'cursor')), 'no run has stored its place')
  writing.isOver = true
  await Promise.all(writers)
  await readUntil(() => [...expected].every((id) => printed.has(id)))
  t.diagnostic(`${expected.size} outcomes`)
  assert.deepEqual([...printed].sort(), [...expected].sort())
}

const envFor = (url: string) => ({ PATH: process.env.PATH, GATEWAY_URL: url, GATEWAY_API_KEY: CANARIES.operatorKey })

test('the snippets for Node and for a web page cancel a task', async (t) => {
  const folder = await installPacked(t)
  await t.test('Node', async (t) => {
    const { url, upstream } = await startGateway(t, { sandbox: { cancellingMs: 0 } })
    await writeFile(join(folder, 'cancel.ts'), snippet('ts', 'cancelAndWait'))
    const { stdout } = await run(process.execPath, ['cancel.ts', upstream.addTask()], { cwd: folder, env: envFor(url) })
    assert.match(stdout, /^(waiting|executing)\ncancelled \n$/)
    const absent = await run(process.execPath, ['cancel.ts', 'absent'], { cwd: folder, env: envFor(url) })
    assert.match(absent.stdout, /\nnot-cancelled task-not-found\n$/)
  })

  await t.test('loop over the outcomes', async (t) => {
    await writeFile(join(folder, 'follow.ts'), snippet('ts', 'finished'))
    await followWhileKilled(t, folder, (cwd, env) =>
      spawn(process.execPath, ['follow.ts'], { cwd, env, detached: true, stdio: ['ignore', 'pipe', 'inherit'] }),
    )
  })

  await t.test('web page', async (t) => {
    if (!requires(t, 'chromium')) return
    const [command = '', ...names] = /`esbuild (.*)`/.exec(readClient())?.[1]?.split(' ') ?? []
    assert.deepEqual(names, ['--bundle', '--format=esm', '--outfile=client.js'])
    await build({
      ...{ absWorkingDir: folder, entryPoints: [command], outfile: 'client.js', bundle: true, format: 'esm' },
      logLevel: 'silent',
    })
    const script = await readFile(join(folder, 'client.js'), 'utf8')
    let page = ''
    const pages = createServer((req, res) => {
      const isScript = req.url === '/client.js'
      res.setHeader('content-type', isScript ? 'text/javascript' : 'text/html').end(isScript ? script : page)
    })
    const app = `http://${APP_HOST}:${await listenOn(t, pages)}`
    const env = { ...SIGN_IN_ENV, CORS_ORIGINS: app }
    const gateway = await startGateway(t, { env, sandbox: { cancellingMs: 0 } })
    const browser = await openBrowser(t, gateway)
    page = snippet('html').replaceAll('https://gateway.example.com', browser.origin)
    const { cookie } = await sessionCookie({ scopes: ['tasks:cancel'] })
    const [name = '', value = ''] = cookie.split('=')
    const own = { domain: new URL(browser.origin).hostname, path: '/', secure: true, httpOnly: true } as const
    await browser.page.context().addCookies([{ name, value, ...own, sameSite: 'Strict' }])
    await browser.page.goto(`${app}/`)
    await browser.page.getByLabel('Task number').fill(gateway.upstream.addTask())
    await browser.page.getByRole('button').click()
    await browser.page.locator('output', { hasText: 'cancelled' }).waitFor()

    // Without the session the page sends the person to the sign-in, and names itself as the target.
    await browser.page.context().clearCookies()
    const login = browser.page.waitForRequest(/\/auth\/login\?/)
    await browser.page.getByRole('button').click()
    assert.equal(new URL((await login).url()).searchParams.get('returnTo'), `${app}/`)
  })
})

test('the loop of the main README prints each outcome', async (t) => {
  if (!requires(t, 'jq')) return
  const script = snippet('sh', 'sort=finished', readFileSync(join(ROOT, 'README.md'), 'utf8'))
  await followWhileKilled(t, await temporaryFolder(t), (cwd, { GATEWAY_URL: GATEWAY, GATEWAY_API_KEY: KEY, PATH }) =>
    spawn('sh', ['-c', script], {
      cwd,
      env: { GATEWAY, KEY, PATH },
      detached: true,
      stdio: ['ignore', 'pipe', 'ignore'],
    }),
  )
})

test('the snippet for Python cancels a task', async (t) => {
  if (!requires(t, 'python')) return
  const path = join(await temporaryFolder(t), 'cancel.py')
  await writeFile(path, snippet('python'))
  const { url, upstream } = await startGateway(t, { sandbox: { cancellingMs: 0 } })
  const cancel = async (taskNo: string, address: string): Promise<string> =>
    (await run('python3', [path, taskNo], { env: envFor(address) })).stdout
  assert.equal(await cancel(upstream.addTask(), url), 'cancelled\n')
  assert.equal(await cancel('absent', url), 'not-cancelled (task-not-found)\n')
  assert.equal(await cancel('absent', 'http://127.0.0.1:1'), 'unknown\n')
})
