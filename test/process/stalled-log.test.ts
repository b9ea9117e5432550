import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, type TestContext, test } from 'node:test'
import type { Env } from '../../src/config.ts'
import { buildGateway } from '../helpers/build.ts'
import { eventually, temporaryFolder } from '../helpers/gateway.ts'
import { closedPort, isOpen } from '../helpers/ports.ts'
import { cancel, prepare, ROOT, withCompileCache } from '../helpers/process.ts'
import { sendBytes } from '../helpers/raw-http.ts'
import { requires } from '../helpers/requirements.ts'
import { createUnreadPipe } from '../helpers/unread-pipe.ts'

const ENTRY = join(ROOT, 'src/server.ts')

interface Command {
  readonly program: string
  readonly args: readonly string[]
}

const GATEWAY: Command = { program: process.execPath, args: [ENTRY] }
/** The gateway writes to a terminal, which `script` reads until it can't hand on any more itself. */
const IN_TERMINAL: Command = {
  program: 'script',
  args: ['--quiet', '--return', '--flush', '--command', `exec ${process.execPath} ${ENTRY}`, '/dev/null'],
}

/** No longer there, or only for its parent to ask for its exit code. */
const isGone = (pid: number): boolean => {
  try {
    return / Z /.test(readFileSync(`/proc/${pid}/stat`, 'utf8'))
  } catch {
    return true
  }
}

interface Outputs {
  readonly stdout: number | 'pipe'
  readonly stderr: number | 'pipe'
}

const start = async (t: TestContext, env: Env, { stdout, stderr }: Outputs, { program, args } = GATEWAY) => {
  const child = spawn(program, args, {
    cwd: await temporaryFolder(t),
    env: withCompileCache({ PATH: process.env.PATH, ...env }),
    stdio: ['ignore', stdout, stderr],
  })
  const exited = once(child, 'exit')
  t.after(async () => {
    child.kill('SIGKILL')
    await exited
  })
  return { pid: child.pid, kill: (signal: NodeJS.Signals) => child.kill(signal), exited: exited.then(([code]) => code) }
}

/** A listening gateway whose standard output and standard error are full and not read. */
const startUnread = async (t: TestContext, more: Env = {}, command = GATEWAY) => {
  const { sandbox, env } = await prepare(t)
  const [port, adminPort] = [await closedPort(), await closedPort()]
  const pipe = await createUnreadPipe(t)
  pipe.fill()
  const ports = { PORT: String(port), ADMIN_PORT: String(adminPort) }
  const outputs = { stdout: pipe.fd, stderr: pipe.fd }
  const { pid, kill, exited } = await start(t, { ...env, ...ports, ...more }, outputs, command)
  const url = `http://127.0.0.1:${port}`
  await eventually(async () => (await isOpen(url)) || undefined)
  const metric = async (name: string): Promise<number> => {
    const text = await (await fetch(`http://127.0.0.1:${adminPort}/metrics`)).text()
    return Number(new RegExp(`^${name} (\\d+)$`, 'm').exec(text)?.[1])
  }
  return { pipe, sandbox, url, pid, kill, exited, dropped: () => metric('gateway_log_lines_dropped_total') }
}

const REQUESTS = 6000

/** So many requests that their log lines are more than may wait. */
const sendMany = async (url: string): Promise<number> => {
  const request = (connection: string) => `GET /livez HTTP/1.1\r\nHost: a\r\nConnection: ${connection}\r\n\r\n`
  const answers = await sendBytes(url, request('keep-alive').repeat(REQUESTS - 1) + request('close'))
  return answers.match(/HTTP\/1\.1 200/g)?.length ?? 0
}

// Most of each test is the start of a process.
describe('a gateway whose log is not read', { concurrency: 2 }, () => {
  test('answers every request, counts the lines that it drops, and says how many once it is read again', async (t) => {
    const gateway = await startUnread(t)
    const answered = await sendMany(gateway.url)
    const status = await cancel(gateway.url, gateway.sandbox.addTask())
    const dropped = await gateway.dropped()
    let text = ''
    const report = await eventually(() => {
      text += gateway.pipe.read()
      return /"droppedLines":(\d+)/.exec(text)?.[1]
    })
    await cancel(gateway.url, gateway.sandbox.addTask())
    await eventually(() => {
      text += gateway.pipe.read()
      return text.split('"cancellation"').length > 1 || undefined
    })

    assert.deepEqual([answered, status], [REQUESTS, 202])
    assert.ok(dropped > 0)
    assert.equal(Number(report), dropped)
    assert.equal(text.match(/droppedLines/g)?.length, 1)
    for (const line of text.replace(/^\.+/, '').trim().split('\n')) assert.doesNotThrow(() => JSON.parse(line))
  })

  test('answers, and ends with 0 on SIGTERM, as it is built', async (t) => {
    const built = { program: process.execPath, args: [await buildGateway()] }
    const { url, sandbox, kill, exited } = await startUnread(t, {}, built)
    const answered = await sendMany(url)
    const status = await cancel(url, sandbox.addTask())
    kill('SIGTERM')
    assert.deepEqual([answered, status, await exited], [REQUESTS, 202, 0])
  })

  test('answers, and ends with 0 on SIGTERM, where the log goes to a terminal', async (t) => {
    if (!requires(t, 'terminal')) return
    const { pipe, url, sandbox, pid, exited } = await startUnread(t, {}, IN_TERMINAL)
    const gatewayPid = Number(readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8'))
    const answered = await sendMany(url)
    const status = await cancel(url, sandbox.addTask())
    process.kill(gatewayPid, 'SIGTERM')
    await eventually(async () => (await isOpen(url)) === false || undefined)
    await eventually(() => isGone(gatewayPid) || undefined)
    // The program that holds the terminal forwards its buffered output, and then the exit code.
    const code = await eventually(() => {
      pipe.read()
      return Promise.race([exited, Promise.resolve()])
    })
    assert.deepEqual([answered, status, code], [REQUESTS, 202, 0])
  })

  test('answers, and ends with 0 on SIGTERM, where the log goes to a socket', async (t) => {
    const { sandbox, env } = await prepare(t)
    const port = await closedPort()
    // A `pipe` to a child of Node is a socket, like the one of a journal.
    const socket = 'pipe'
    const { kill, exited } = await start(t, { ...env, PORT: String(port) }, { stdout: socket, stderr: socket })
    const url = `http://127.0.0.1:${port}`
    await eventually(async () => (await isOpen(url)) || undefined)
    const answered = await sendMany(url)
    const status = await cancel(url, sandbox.addTask())
    kill('SIGTERM')
    assert.deepEqual([answered, status, await exited], [REQUESTS, 202, 0])
  })

  test('ends with 0 on SIGTERM where the reader has gone, too', async (t) => {
    const { pipe, url, sandbox, kill, exited } = await startUnread(t)
    pipe.closeReader()
    const status = await cancel(url, sandbox.addTask())
    kill('SIGTERM')
    assert.deepEqual([status, await exited], [202, 0])
  })

  test('writes buffered lines at the end, if its output is read again by then', async (t) => {
    const { pipe, url, kill, exited } = await startUnread(t)
    await fetch(`${url}/livez`)
    // The gateway may write its buffered lines as soon as there is room, which is before the first read returns.
    const first = pipe.read()
    kill('SIGTERM')
    assert.equal(await exited, 0)
    const messages = (first + pipe.read())
      .replace(/^\.+/, '')
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line).msg)
    // It comes at any moment, or not at all.
    const others = messages.filter((message) => message !== 'the upstream accepts the credentials')
    assert.deepEqual(others, ['listening', 'request', 'stopping', 'stopped'])
  })

  test('ends with 1 where its settings are faulty', async (t) => {
    const pipe = await createUnreadPipe(t)
    pipe.fill()
    const { exited } = await start(t, { PORT: 'x' }, { stdout: pipe.fd, stderr: pipe.fd })
    assert.equal(await exited, 1)
  })

  test('ends with 1 on a bug', async (t) => {
    const preload = join(await temporaryFolder(t), 'bug.mjs')
    await writeFile(preload, `process.once('SIGUSR2', () => { throw new Error('canary') })`)
    const withBug = { program: process.execPath, args: ['--import', preload, ENTRY] }
    const { kill, exited } = await startUnread(t, {}, withBug)
    kill('SIGUSR2')
    assert.equal(await exited, 1)
  })
})
