import { readFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import dotenv from 'dotenv'
import { allowDistantAddresses } from '../addresses.ts'
import { CHECK_NAMES, runDoctor } from '../doctor/doctor.ts'
import type { Finding } from '../doctor/finding.ts'

const USAGE = `Usage: npm run doctor -- [--json] [--probe-cancel]
Checks the settings of the gateway and the systems that they name. Prints a line for each check: ok, warning or failure.
The exit code is 1 if there is a failure, otherwise 0. It can run beside the gateway.
--json           prints one JSON object instead
--probe-cancel   also checks the right to cancel: records an intent of the caller "doctor" in the audit record, then
                 sends CancelTask for a task number that does not exist`

const fail = (reason: string): never => {
  process.stderr.write(`${reason}\n`)
  process.exit(1)
}

const readArguments = () => {
  try {
    return parseArgs({ options: { json: { type: 'boolean' }, 'probe-cancel': { type: 'boolean' } } }).values
  } catch (error) {
    return fail(`${error instanceof Error ? error.message : 'The arguments are not understood.'}\n${USAGE}`)
  }
}

const NAME_WIDTH = Math.max(...CHECK_NAMES.map((name) => name.length))
const STATUS_WIDTH = 'warning'.length

const lineOf = (check: string, { status, message, advice }: Finding): string =>
  `${status.padEnd(STATUS_WIDTH)}  ${check.padEnd(NAME_WIDTH)}  ${message}.${advice === null ? '' : ` ${advice}`}\n`

const run = async (): Promise<void> => {
  const { json = false, 'probe-cancel': isCancelProbed = false } = readArguments()
  const { error } = dotenv.config({ quiet: true, override: false })
  if (error !== undefined && error.code !== 'ENOENT') fail('.env must be a file that can be read')
  allowDistantAddresses()
  const findings: (Finding & { readonly check: string })[] = []
  const isSound = await runDoctor({
    ...{ env: process.env, execArgv: process.execArgv, isCancelProbed },
    readFile: (path) => readFileSync(path, 'utf8'),
    onFinding: (check, finding) => {
      findings.push({ check, ...finding })
      if (!json) process.stdout.write(lineOf(check, finding))
    },
  })
  if (json) process.stdout.write(`${JSON.stringify({ ok: isSound, checks: findings }, null, 2)}\n`)
  process.exitCode = isSound ? 0 : 1
}

run().catch(() => fail('The checks could not be completed.'))
