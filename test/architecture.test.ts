import assert from 'node:assert/strict'
import { globSync, readFileSync } from 'node:fs'
import { dirname, join, relative, resolve } from 'node:path'
import { test } from 'node:test'

// The arrows between the rooms of src and of the sandbox. A module is named by its path from src, an import of ours
// likewise.

interface Import {
  readonly from: string
  /** Types leave no trace at run time, so they bind less. */
  readonly typeOnly: boolean
  /** Only when the line is reached, and not with the module. */
  readonly isLate: boolean
}

interface Module {
  readonly path: string
  readonly text: string
  readonly imports: readonly Import[]
}

const SRC = join(import.meta.dirname, '../src')

const STATEMENT =
  /^(?:import|export)\b(?!\s*\()(?:(?<what>(?:(?!\bfrom\s*['"])[^'"])*)\bfrom)?\s*['"](?<from>[^'"]+)['"]/gm
const LOADED = /\b(?:import(?:\.meta\.resolve)?|require)\s*\(\s*['"`](?<from>[^'"`]+)/g

const isTypeOnly = (what: string): boolean => {
  const names = /^\s*\{(?<names>[^}]*)\}\s*$/
    .exec(what)
    ?.groups?.names?.split(',')
    .filter((name) => name.trim() !== '')
  return /^\s*type\b/.test(what) || (names?.every((name) => /^\s*type\s/.test(name)) ?? false)
}

/** An import's path from src, or the package's name where it is none of ours. */
const locate = (path: string, from: string): string =>
  from.startsWith('.') ? relative(SRC, resolve(SRC, dirname(path), from)) : from

const parseModule = (path: string, text: string): Module => {
  const statements = [...text.matchAll(STATEMENT)].map(({ groups }) => ({
    from: locate(path, groups?.from ?? ''),
    typeOnly: isTypeOnly(groups?.what ?? ''),
    isLate: false,
  }))
  const loaded = [...text.matchAll(LOADED)].map(({ groups }) => ({
    from: locate(path, groups?.from ?? ''),
    typeOnly: false,
    isLate: true,
  }))
  return { path, text, imports: [...statements, ...loaded] }
}

const MODULES = globSync(['src/**/*', 'sandbox/**/*.ts'], { cwd: dirname(SRC), withFileTypes: true })
  .filter((entry) => entry.isFile())
  .map((entry) => join(entry.parentPath, entry.name))
  .map((file) => parseModule(relative(SRC, file), readFileSync(file, 'utf8')))

/** The folder of a module, `http/` for all of its kinds; the path of a module at the top. */
const roomOf = (path: string): string =>
  path.startsWith('http/') ? 'http/' : path.includes('/') ? `${dirname(path)}/` : path

const LEAVES = [
  'addresses.ts',
  'async.ts',
  'collections.ts',
  'errors.ts',
  'files.ts',
  'secret.ts',

  'priority.ts',
  'time.ts',
  'visible-text.ts',
  // How settings are read: the rules of their texts.
  'settings/',
] as const
/** Modules that every folder may report to. */
const TOLD = ['telemetry/log.ts', 'telemetry/meter.ts', 'telemetry/tracing.ts'] as const
/** Tasks as the upstream reports them, in names of the gateway. */
const TASK_DATA = ['alibaba/task-schemas.ts', 'alibaba/task-queries.ts'] as const

const SANDBOX = '../sandbox/src/'
const SANDBOX_BIN = '../sandbox/bin/'
const DEMO = '../sandbox/bin/demo.ts'
const ENTRY_POINTS = ['server.ts', 'bin/', SANDBOX_BIN] as const

/**
 * Allowed imports of each folder, besides leaves and its own files. A folder ends in a slash. A file may have its own
 * row.
 */
const ARROWS: Readonly<Record<string, { readonly any: readonly string[]; readonly types?: readonly string[] }>> = {
  ...Object.fromEntries(LEAVES.map((leaf) => [leaf, { any: [] }])),
  // Files of callers are read before there is a gateway, by the parsers that read them again later.
  'config.ts': {
    any: ['settings.ts', 'callers/api-keys.ts', 'callers/grants.ts'],
    types: ['callers/claims.ts', 'callers/entry-schema.ts'],
  },
  'settings.ts': { any: ['callers/claims.ts'] },
  'telemetry/': { any: [] },
  'alibaba/': { any: TOLD },
  'audit/': { any: TOLD },
  'callers/': { any: TOLD },
  // Pure files of other rooms are imported as they are, so that references lead to the line that decides.
  'tasks/': {
    any: [...TOLD, 'alibaba/response.ts', 'alibaba/upstream-time.ts', 'audit/store.ts', 'callers/policy.ts'],
    types: ['alibaba/client.ts', ...TASK_DATA, 'audit/audit-trail.ts', 'callers/caller.ts'],
  },
  // Of the audit trail only the list of outcomes is more than a type: a filter is checked against it.
  'http/': {
    any: ['tasks/', 'callers/', ...TOLD, 'audit/store.ts', 'audit/record-json.ts'],
    types: ['audit/audit-trail.ts', ...TASK_DATA],
  },
  'app.ts': {
    any: ['http/'],
    types: ['alibaba/task-queries.ts', 'audit/audit-trail.ts', 'callers/', 'tasks/', ...TOLD],
  },
  'gateway.ts': {
    any: ['app.ts', 'alibaba/', 'audit/', 'callers/', 'http/', 'tasks/', 'telemetry/'],
    types: ['config.ts'],
  },
  // The checks use the parts of the gateway as they are.
  'doctor/': {
    any: ['config.ts', 'settings.ts', 'gateway.ts', 'alibaba/', 'audit/', 'callers/', 'http/', 'tasks/', 'telemetry/'],
  },
  'server.ts': { any: ['config.ts', 'settings.ts', 'gateway.ts', 'telemetry/line-output.ts', ...TOLD] },
  'bin/': { any: ['config.ts', 'audit/', 'callers/', 'doctor/'] },
  [SANDBOX]: { any: ['alibaba/acs3.ts', 'alibaba/rpc-v1.ts', 'alibaba/signing.ts'] },
  [SANDBOX_BIN]: { any: [SANDBOX] },
  [DEMO]: { any: [SANDBOX, 'callers/api-keys.ts', 'config.ts', 'gateway.ts'] },
}

/** Where each package may be imported. One that is not listed is imported nowhere. */
const PACKAGES: Readonly<Record<string, readonly string[]>> = {
  express: ['http/', 'app.ts'],
  'express-rate-limit': ['http/'],
  'rate-limit-redis': ['http/'],
  '@redis/client': ['http/'],
  helmet: ['http/'],
  got: ['alibaba/'],
  '@alicloud/credentials': ['alibaba/'],
  jose: ['callers/'],
  'openid-client': ['callers/'],
  pg: ['audit/'],
  pino: ['telemetry/'],
  'prom-client': ['telemetry/'],
  '@opentelemetry/api': ['telemetry/'],
  '@opentelemetry/core': ['telemetry/'],
  '@opentelemetry/exporter-trace-otlp-http': ['telemetry/'],
  '@opentelemetry/resources': ['telemetry/'],
  '@opentelemetry/sdk-trace': ['telemetry/'],
  dotenv: ['server.ts', 'bin/'],
  yaml: ['http/'],
  'swagger-ui-dist/package.json': ['http/'],
  '#openapi.yaml': ['http/'],
  '#public/index.html': ['http/'],
  'lru-cache': ['collections.ts'],
  zod: [...LEAVES, 'settings.ts', 'alibaba/', 'audit/', 'callers/', 'tasks/', 'http/'],
}

const isOurs = (from: string): boolean => from.endsWith('.ts')
const isNode = (from: string): boolean => from.startsWith('node:')
const reaches = (places: readonly string[], from: string): boolean =>
  places.includes(from) || places.includes(roomOf(from))

const breaksArrow = ({ path, imports }: Module): readonly string[] => {
  const room = roomOf(path)
  const { any, types = [] } = ARROWS[path] ?? ARROWS[room] ?? { any: [] }
  const free = [...LEAVES, room, ...any]
  return imports
    .filter(({ from, typeOnly }) => isOurs(from) && !reaches(typeOnly ? [...free, ...types] : free, from))
    .map(({ from }) => from)
}

const breaksPackage = ({ path, imports }: Module): readonly string[] =>
  imports
    .map(({ from }) => from)
    .filter((from) => !isOurs(from) && !isNode(from) && !PACKAGES[from]?.includes(roomOf(path)))

const importsOf =
  (isForbidden: (from: string) => boolean) =>
  ({ imports }: Module): readonly string[] =>
    imports.map(({ from }) => from).filter(isForbidden)

const except =
  (places: readonly string[], rule: Rule['breaches']): Rule['breaches'] =>
  (module) =>
    reaches(places, module.path) ? [] : rule(module)

const PROCESS = /\bprocess\s*(?:\.\w|\?\.|\[)|=\s*process\b|\bglobalThis\b|['"](?:node:)?process['"]/g
const ABSENT = /^(controllers?|services?|repositories|models?|utils?|helpers?|types?|middlewares?|common|lib|shared)\//

interface Rule {
  readonly breaches: (module: Module) => readonly string[]
  /** Modules that break the rule, so that it is known to be able to fail: path and text. */
  readonly broken: readonly (readonly [string, string])[]
}

const RULES: Readonly<Record<string, Rule>> = {
  'every room imports what its arrows allow, and no other room': {
    breaches: breaksArrow,
    broken: [
      ['errors.ts', "import { parseConfig } from './config.ts'"],
      ['config.ts', "import type { Gateway } from './gateway.ts'"],
      ['telemetry/log.ts', "import type { Caller } from '../callers/caller.ts'"],
      ['alibaba/client.ts', "import { createAuditTrail } from '../audit/audit-trail.ts'"],
      ['audit/audit-trail.ts', "import type { Upstream } from '../alibaba/client.ts'"],
      ['callers/policy.ts', "import {\n  a,\n  b,\n} from '../tasks/cancel.ts'"],
      ['tasks/cancel.ts', "import { createAuditTrail, type AuditTrail } from '../audit/audit-trail.ts'"],
      ['tasks/cancel.ts', "import type { Sign } from '../alibaba/signing.ts'"],
      ['tasks/lookup.ts', "import { createTaskQueries } from '../alibaba/task-queries.ts'"],
      ['tasks/permission.ts', "import { createGrants } from '../callers/grants.ts'"],
      ['tasks/permission.ts', "import { coversDomain } from '../callers/domain-names.ts'"],
      ['http/routes/me.ts', "import type { Upstream } from '../../alibaba/client.ts'"],
      ['http/routes/me.ts', "export * from '../../audit/sqlite.ts'"],
      ['app.ts', "import { createAuditTrail } from './audit/audit-trail.ts'"],
      ['gateway.ts', "import { parseConfig } from './config.ts'"],
      ['server.ts', "import { createApp } from './app.ts'"],
      ['bin/key.ts', "import { createApp } from '../app.ts'"],
      ['bin/key.ts', "import { createGateway } from '../gateway.ts'"],
      ['../sandbox/src/server.ts', "import { createUpstream } from '../../src/alibaba/client.ts'"],
      ['../sandbox/src/server.ts', "import '../../src/telemetry/log.ts'"],
      ['../sandbox/src/server.ts', "import type { Gateway } from '../../src/gateway.ts'"],
      ['../sandbox/bin/sandbox.ts', "import { createGateway } from '../../src/gateway.ts'"],
      ['../sandbox/bin/demo.ts', "import { createApp } from '../../src/app.ts'"],
      ['../sandbox/bin/demo.ts', "import type { Upstream } from '../../src/alibaba/client.ts'"],
      ['new.ts', "import { a } from './config.ts'"],
      ['new/part.ts', "const a = await import('../config.ts')"],
    ],
  },
  'src imports nothing of the sandbox, nor of any other folder beside it': {
    breaches: except(
      [SANDBOX, SANDBOX_BIN],
      importsOf((from) => from.startsWith('../')),
    ),
    broken: [
      ['gateway.ts', "import type { Sandbox } from '../sandbox/src/server.ts'"],
      ['bin/key.ts', "import { createSandbox } from '../../sandbox/src/server.ts'"],
      ['http/routes/me.ts', "const a = await import('../../../sandbox/bin/sandbox.ts')"],
      ['http/routes/me.ts', "import { a } from '../../../test/helpers/gateway.ts'"],
    ],
  },
  'nobody imports an entry point': {
    breaches: importsOf((from) => reaches(ENTRY_POINTS, from)),
    broken: [
      ['gateway.ts', "import './server.ts'"],
      ['bin/secret.ts', "import { a } from './key.ts'"],
      ['../sandbox/bin/demo.ts', "import './sandbox.ts'"],
    ],
  },
  'the whole Config is known to the gateway and to entry points alone': {
    breaches: except(
      ['gateway.ts', 'doctor/', ...ENTRY_POINTS],
      importsOf((from) => from === 'config.ts'),
    ),
    broken: [
      ['app.ts', "import type { Config } from './config.ts'"],
      ['http/middleware/context.ts', "import type { Config } from '../../config.ts'"],
      ['../sandbox/src/server.ts', "import type { Config } from '../../src/config.ts'"],
    ],
  },
  // That connection is opened in http/, with the password in its URL.
  'of http/, only the store in Redis knows Secrets': {
    breaches: except(['http/middleware/redis-store.ts'], (module) =>
      reaches(['http/', 'app.ts'], module.path) ? importsOf((from) => from === 'secret.ts')(module) : [],
    ),
    broken: [
      ['app.ts', "import type { Secret } from './secret.ts'"],
      ['http/middleware/context.ts', "import { Secret } from '../../secret.ts'"],
    ],
  },
  'every package stands where it belongs': {
    breaches: breaksPackage,
    broken: [
      ['tasks/cancel.ts', "import type { Request } from 'express'"],
      ['gateway.ts', "import express from 'express'"],
      ['http/routes/me.ts', "import got from 'got'"],
      ['alibaba/client.ts', "import pino from 'pino'"],
      ['config.ts', "import 'dotenv/config'"],
      ['../sandbox/src/server.ts', "import { z } from 'zod'"],
      ['../sandbox/bin/demo.ts', "import 'dotenv/config'"],
      ['http/routes/me.ts', "import _ from 'lodash'"],
      ['http/routes/me.ts', "import { isIP } from 'net'"],
      ['http/me.ts', "const { a } = require('jose')"],
      ['tasks/cancel.ts', "const a = import.meta.resolve('swagger-ui-dist/package.json')"],
    ],
  },
  'a leaf imports nothing but node, zod, lru-cache and leaves': {
    breaches: ({ path, imports }) =>
      imports
        .map(({ from }) => from)
        .filter((from) => reaches(LEAVES, path) && !isNode(from) && !reaches(['zod', 'lru-cache', ...LEAVES], from)),
    broken: [
      ['errors.ts', "import type { Log } from './telemetry/log.ts'"],
      ['time.ts', "import express from 'express'"],
    ],
  },
  'the process is touched by entry points alone': {
    breaches: except(ENTRY_POINTS, ({ text }) => text.match(PROCESS) ?? []),
    broken: [
      ['config.ts', 'const port = process.env.PORT'],
      ['gateway.ts', "process['exit'](1)"],
      ['gateway.ts', 'const { env } = process'],
      ['http/routes/me.ts', "import { env } from 'node:process'"],
      ['http/me.ts', 'globalThis.process.exit()'],
      ['../sandbox/src/server.ts', 'const port = process.env.SANDBOX_PORT'],
    ],
  },
  'folders are one deep but for the kinds of http/, none is a catch-all, and files are kebab-case nouns': {
    breaches: ({ path }) =>
      /^(\.\.\/sandbox\/(bin|src)\/|http\/(routes|middleware|server|presentation)\/|(?!http\/)[a-z]+\/)?[a-z0-9]+(-[a-z0-9]+)*\.ts$/.test(
        path,
      ) && !ABSENT.test(path)
        ? []
        : [path],
    broken: [
      ['http/routes/tasks/me.ts', ''],
      ['http/me.ts', ''],
      ['tasks/routes/me.ts', ''],
      ['utils/text.ts', ''],
      ['http/middleware/clientIp.ts', ''],
      ['http/routes/me.js', ''],
      ['../sandbox/server.ts', ''],
      ['../sandbox/src/faults/huge.ts', ''],
    ],
  },
  'no file does nothing but hand on what others export': {
    breaches: ({ path, text }) => (/^(\s*export\s[^;'"]*from\s*'[^']+'\s*)+$/.test(text) ? [path] : []),
    broken: [['http/index.ts', "export * from './me.ts'\nexport { a } from './query.ts'\n"]],
  },
}

for (const [name, { breaches, broken }] of Object.entries(RULES)) {
  test(name, () => {
    const found = MODULES.flatMap((module) => breaches(module).map((what) => `${module.path}: ${what}`))
    assert.deepEqual(found, [])
  })

  test(`it would be noticed if not: ${name}`, () => {
    const unnoticed = broken.filter(([path, text]) => breaches(parseModule(path, text)).length === 0)
    assert.deepEqual(unnoticed, [])
  })
}

test('all modules are seen, with all that they import', () => {
  assert.ok(MODULES.length > 30, String(MODULES.length))
  for (const path of ['server.ts', '../sandbox/src/server.ts', DEMO])
    assert.ok(
      MODULES.some((module) => module.path === path),
      path,
    )
  for (const { path, text, imports } of MODULES) {
    const statements = text.match(/^import\b|^export .*\bfrom '|\bimport\('/gm) ?? []
    assert.ok(imports.length >= statements.length, path)
  }
})

/** Paths of modules that reach themselves by their imports, types included. */
const cyclesIn = (modules: readonly Module[]): readonly string[] => {
  const next = new Map(modules.map(({ path, imports }) => [path, imports.map(({ from }) => from)]))
  const reached = (start: string, seen = new Set<string>()): Set<string> => {
    for (const from of next.get(start) ?? []) if (!seen.has(from)) reached(from, seen.add(from))
    return seen
  }
  return [...next.keys()].filter((path) => reached(path).has(path))
}

test('no cycles, types included', () => {
  assert.deepEqual(cyclesIn(MODULES), [])
})

test('a cycle of types alone is found', () => {
  const cycle = [
    parseModule('http/a.ts', "import { b } from './b.ts'"),
    parseModule('http/b.ts', "import type { A } from './a.ts'"),
    parseModule('http/c.ts', "import type { A } from './a.ts'"),
  ]
  assert.deepEqual(cyclesIn(cycle), ['http/a.ts', 'http/b.ts'])
})

/** Packages that slow down every start, and are needed only with some settings. */
const LATE_PACKAGES = ['jose', 'openid-client', 'yaml'] as const

test('what a start may not need is not loaded by every start', () => {
  const byPath = new Map(MODULES.map((module) => [module.path, module]))
  const loaded = (path: string, seen = new Set<string>()): Set<string> => {
    for (const { from, typeOnly, isLate } of byPath.get(path)?.imports ?? []) {
      if (!typeOnly && !isLate && !seen.has(from)) loaded(from, seen.add(from))
    }
    return seen
  }
  // The last two are late only to be loaded beside something else.
  const atOnce = new Set(['server.ts', 'app.ts', 'alibaba/client.ts'].flatMap((path) => [...loaded(path)]))
  assert.ok(atOnce.has('http/routes/auth-routes.ts') && atOnce.has('express'))
  assert.deepEqual(
    LATE_PACKAGES.filter((name) => atOnce.has(name)),
    [],
  )
})
