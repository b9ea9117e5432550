import { statSync } from 'node:fs'
import { platform } from 'node:os'
import { misspeltSettings } from '../settings/misspelt.ts'
import { proxyWarning } from '../settings/node-environment.ts'
import { SETTING_NAMES } from '../settings.ts'
import { type Finding, failure, ok, warning, worstOf } from './finding.ts'
import type { Subject } from './subject.ts'

type Env = Subject['env']

/** Variables with almost the name of a setting. */
export const checkNames = (env: Env): Finding => {
  const [first, ...others] = misspeltSettings(Object.keys(env), SETTING_NAMES).map(({ variable, setting }) =>
    warning(`${variable} is not a setting`, `Did you mean ${setting}?`),
  )
  return first === undefined ? ok('no variable has almost the name of a setting') : worstOf(first, ...others)
}

/** Of other users: any right. Of the group: the right to write. */
const EXPOSING = 0o027
const GROUP_WRITE = 0o020
const DOT_ENV = '.env'

/** Files that settings name, and `.env`: other users must neither read nor change them. */
export const checkFiles = (env: Env): Finding => {
  const named = SETTING_NAMES.filter((name) => name.endsWith('_FILE')).flatMap((name) => {
    const path = env[name]?.trim() ?? ''
    return path === '' ? [] : [{ name, path }]
  })
  const findings = [...named, { name: DOT_ENV, path: DOT_ENV }].map(checkFile).filter((each) => each !== null)
  const [first, ...others] = findings
  return first === undefined ? ok('no setting names a file') : worstOf(first, ...others)
}

const checkFile = ({ name, path }: { readonly name: string; readonly path: string }): Finding | null => {
  const stats = statSync(path, { throwIfNoEntry: false })
  if (stats === undefined) {
    return name === DOT_ENV ? null : failure(`${name} names no file`, 'Correct the path, or mount the secret.')
  }
  // Windows has no such modes.
  const rights = platform() === 'win32' ? 0 : stats.mode & EXPOSING
  if (rights === 0) return ok(`${name} is private`)
  return exposed(
    name,
    stats.mode,
    rights === GROUP_WRITE ? 'its group can change it' : 'other users can read or change it',
  )
}

const exposed = (name: string, mode: number, fault: string): Finding =>
  warning(`${name}: ${fault} (mode ${(mode & 0o777).toString(8)})`, 'Set the mode of each file to 0400 or 0440.')

/** Variables for HTTP proxies, which the gateway does not use. */
export const checkProxyVariables = (env: Env, execArgv: readonly string[]): Finding => {
  const found = proxyWarning(env, execArgv)
  return found === null
    ? ok('no variable names an HTTP proxy')
    : warning(`${found.names.join(', ')}: ${found.message}`, 'Allow direct connections, or route them.')
}
