import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { readFile, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import { join } from 'node:path'
import { test } from 'node:test'
import { promisify } from 'node:util'
import { build } from 'esbuild'
import { APP_HOST, openBrowser } from '../helpers/browser.ts'
import { CLIENT, installPacked } from '../helpers/client-package.ts'
import { CANARIES, startGateway, temporaryFolder } from '../helpers/gateway.ts'
import { listenOn } from '../helpers/ports.ts'
import { requires } from '../helpers/requirements.ts'
import { SIGN_IN_ENV, sessionCookie } from '../helpers/session.ts'

const run = promisify(execFile)

/** The one snippet of the README in that language. */
const snippet = (language: string): string => {
  const readme = readFileSync(join(CLIENT, 'README.md'), 'utf8')
  const [found, ...more] = [...readme.matchAll(new RegExp(`^\`\`\`${language}\n([^]*?)^\`\`\`$`, 'gm'))]
  assert.deepEqual([typeof found?.[1], more.length], ['string', 0], language)
  return found?.[1] ?? ''
}

const envFor = (url: string) => ({ PATH: process.env.PATH, GATEWAY_URL: url, GATEWAY_API_KEY: CANARIES.operatorKey })

test('the snippets for Node and for a web page cancel a task', async (t) => {
  const { folder } = await installPacked(t)
  await t.test('Node', async (t) => {
    const { url, upstream } = await startGateway(t, { sandbox: { cancellingMs: 0 } })
    await writeFile(join(folder, 'cancel.ts'), snippet('ts'))
    const { stdout } = await run(process.execPath, ['cancel.ts', upstream.addTask()], { cwd: folder, env: envFor(url) })
    assert.match(stdout, /^(waiting|executing)\ncancelled \n$/)
    const absent = await run(process.execPath, ['cancel.ts', 'absent'], { cwd: folder, env: envFor(url) })
    assert.match(absent.stdout, /\nnot-cancelled task-not-found\n$/)
  })

  await t.test('web page', async (t) => {
    if (!requires(t, 'chromium')) return
    const [command = '', ...names] =
      /`esbuild (.*)`/.exec(readFileSync(join(CLIENT, 'README.md'), 'utf8'))?.[1]?.split(' ') ?? []
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
