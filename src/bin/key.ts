import { parseArgs } from 'node:util'
import { createKey, parseApiKeys, sha256 } from '../callers/api-keys.ts'
import { SCOPES, type Scope } from '../callers/caller.ts'

const USAGE = `Usage: npm run key -- NAME [--scopes ${SCOPES.join(',')}] [--domains example.com,*.example.com]
  [--task-types CHG_DNS] [--expires-at 2027-01-31T00:00:00Z]
Makes an API key for the caller NAME (by default with the scopes tasks:cancel,tasks:read, for all tasks).`

const DEFAULT_SCOPES = 'tasks:cancel,tasks:read'

const isScope = (text: string): text is Scope => SCOPES.some((scope) => scope === text)

const fail = (reason: string): never => {
  process.stderr.write(`${reason}\n${USAGE}\n`)
  process.exit(2)
}

const readArguments = () => {
  try {
    return parseArgs({
      allowPositionals: true,
      options: {
        scopes: { type: 'string', default: DEFAULT_SCOPES },
        domains: { type: 'string' },
        'task-types': { type: 'string' },
        'expires-at': { type: 'string' },
      },
    })
  } catch (error) {
    return fail(error instanceof Error ? error.message : 'The arguments are not understood.')
  }
}

const listOf = (text: string): readonly string[] => text.split(',').map((each) => each.trim())

const { positionals, values } = readArguments()
const [name = '', ...more] = positionals
if (name.trim() === '' || name.length > 128 || more.length > 0) fail('Give exactly one NAME of at most 128 characters.')

const scopes = listOf(values.scopes)
if (!scopes.every(isScope)) fail(`Scopes are ${SCOPES.join(', ')}.`)

const { domains, 'task-types': taskTypes, 'expires-at': expiresAt } = values
const expires = new Date(expiresAt ?? Number.NaN)
if (expiresAt !== undefined && Number.isNaN(expires.getTime())) fail('--expires-at is not a date.')

const key = createKey()
const entry = {
  name,
  sha256: sha256(key).toString('hex'),
  scopes,
  ...(domains !== undefined && { domains: listOf(domains) }),
  ...(taskTypes !== undefined && { taskTypes: listOf(taskTypes) }),
  ...(expiresAt !== undefined && { expiresAt: expires.toISOString() }),
}
const checked = parseApiKeys(JSON.stringify([entry]))
if (!checked.ok) fail(`The gateway would refuse it: ${checked.rule}.`)

process.stdout.write(`Key, shown this once, for the caller:
  ${key}

Entry for the array in API_KEYS_FILE, for the gateway:
  ${JSON.stringify(entry)}
`)
