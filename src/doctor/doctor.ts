import { type Config, parseConfig } from '../config.ts'
import { ConfigError } from '../errors.ts'
import { describeError } from '../telemetry/log.ts'
import { checkIssuer, checkProvider } from './caller-checks.ts'
import { checkCancelPolicy } from './cancel-check.ts'
import { type Finding, failure, ok } from './finding.ts'
import { checkCollector, checkPorts, checkProxyTrust } from './network-checks.ts'
import { checkFiles, checkNames, checkProxyVariables } from './setting-checks.ts'
import { checkAudit, checkAuditAdmin, checkDisk, checkRedis } from './store-checks.ts'
import { createSubject, type Subject } from './subject.ts'
import { checkClock, checkCredentials, checkEndpoint, checkEndpointName, checkReadPolicy } from './upstream-checks.ts'

export interface DoctorOptions {
  readonly env: Subject['env']
  readonly execArgv: readonly string[]
  readonly readFile: (path: string) => string
  readonly isCancelProbed: boolean
  /** Called with each finding, in the order of the tables. */
  readonly onFinding: (check: string, finding: Finding) => void
}

/** Checks of the variables alone. */
const SETTING_CHECKS: Readonly<Record<string, (options: DoctorOptions) => Finding>> = {
  names: ({ env }) => checkNames(env),
  files: ({ env }) => checkFiles(env),
  'HTTP proxy': ({ env, execArgv }) => checkProxyVariables(env, execArgv),
}

/** Checks that need sound settings. The order is that of the output; the first ones explain later ones. */
const CHECKS: Readonly<Record<string, (subject: Subject) => Promise<Finding>>> = {
  'endpoint name': checkEndpointName,
  endpoint: checkEndpoint,
  clock: checkClock,
  credentials: checkCredentials,
  'read policy': checkReadPolicy,
  'audit record': checkAudit,
  'audit owner': checkAuditAdmin,
  'audit disk': checkDisk,
  'cancel policy': checkCancelPolicy,
  issuer: checkIssuer,
  'identity provider': checkProvider,
  Redis: checkRedis,
  'trace collector': checkCollector,
  ports: checkPorts,
  'trusted proxies': checkProxyTrust,
}

export const CHECK_NAMES: readonly string[] = ['settings', ...Object.keys(SETTING_CHECKS), ...Object.keys(CHECKS)]

const readSettings = ({ env, readFile, execArgv }: DoctorOptions): Config | ConfigError => {
  try {
    return parseConfig(env, readFile, execArgv)
  } catch (error) {
    if (error instanceof ConfigError) return error
    throw error
  }
}

/**
 * Checks the settings and every system that they name, with the parts of the gateway. Faulty settings end it after the
 * checks of the variables. Returns whether there was no failure.
 */
export const runDoctor = async (options: DoctorOptions): Promise<boolean> => {
  const { onFinding, env, execArgv, isCancelProbed } = options
  let isSound = true
  const report = (check: string, finding: Finding): void => {
    isSound &&= finding.status !== 'failure'
    onFinding(check, finding)
  }
  const config = readSettings(options)
  const isFaulty = config instanceof ConfigError
  report(
    'settings',
    isFaulty
      ? failure(config.faults.join('; '), 'Correct these first: the checks of other systems need them.')
      : ok('every setting is valid'),
  )
  for (const [name, check] of Object.entries(SETTING_CHECKS)) report(name, check(options))
  if (isFaulty) return false
  const subject = createSubject({ config, env, execArgv, isCancelProbed })
  try {
    for (const [name, check] of Object.entries(CHECKS)) report(name, await check(subject).catch(brokenCheck))
  } finally {
    await subject.close()
  }
  return isSound
}

/** A defect of a check must not hide the results of the others. */
const brokenCheck = (error: unknown): Finding => {
  const { errorName, errorCode } = describeError(error)
  return failure(`the check failed by itself (${errorCode ?? errorName})`, 'Report it.')
}
