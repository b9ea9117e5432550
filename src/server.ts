import { readFileSync } from 'node:fs'
import dotenv from 'dotenv'
import { allowDistantAddresses } from './addresses.ts'
import { parseConfig } from './config.ts'
import { ConfigError } from './errors.ts'
import { createGateway } from './gateway.ts'
import { misspeltSettings } from './settings/misspelt.ts'
import { proxyWarning } from './settings/node-environment.ts'
import { SETTING_NAMES } from './settings.ts'
import { createLineOutput } from './telemetry/line-output.ts'
import { createLog, describeError } from './telemetry/log.ts'
import { deadlineIn, withDeadline } from './time.ts'

const NODE_MIN = 24

const run = async (): Promise<void> => {
  const { node } = process.versions
  // Started without npm, an older one would fail much later and say little.
  if (Number.parseInt(node, 10) < NODE_MIN) throw new ConfigError([`Node must be ${NODE_MIN} or newer, not ${node}`])
  const { error } = dotenv.config({ quiet: true, override: false })
  if (error !== undefined && error.code !== 'ENOENT') throw new ConfigError(['.env must be a file that can be read'])
  const config = parseConfig(process.env, (path) => readFileSync(path, 'utf8'), process.execArgv)
  const log = createLog({ level: config.logLevel, addresses: config.logAddresses })
  for (const { variable, setting } of misspelt()) {
    log.warn('a variable is not a setting, but its name is similar to one', { variable, setting })
  }
  const unusedProxy = proxyWarning(process.env, process.execArgv)
  if (unusedProxy !== null) for (const variable of unusedProxy.names) log.warn(unusedProxy.message, { variable })
  allowDistantAddresses()
  process.on('uncaughtException', (error) => {
    log.error('an internal error ends the process', describeError(error))
    log.flush()
    process.exit(1)
  })

  // The signal would open Node's debugger, which shows the memory with all secrets, where Node was started without
  // `--disable-sigusr1`.
  process.on('SIGUSR1', () => undefined)

  const gateway = await createGateway(config, { log, isStartProbed: true })
  const listening = gateway.listen()

  const stop = async (signal: NodeJS.Signals): Promise<void> => {
    const { delayMs, graceMs } = config.shutdown
    const deadline = deadlineIn(delayMs + graceMs)
    log.info('stopping', { signal })
    const drained = listening.then((listener) => listener.drain(delayMs)).then(() => true)
    const inTime = await withDeadline(deadline.minus(CLOSE_MS), drained, false)
    if (!inTime) log.error('the grace period is over; some requests got no response')
    await withDeadline(deadline, gateway.close(deadline), undefined)
    log.info('stopped')
    log.flush()
    process.exit(inTime ? 0 : 1)
  }
  let stopping = false
  const stopOnce = (signal: NodeJS.Signals): void => {
    if (!stopping) void stop(signal)
    stopping = true
  }
  // Before the port is open, and not `once`: neither an early nor a second signal may end the process where it stands.
  process.on('SIGTERM', stopOnce)
  process.on('SIGINT', stopOnce)
  // A terminal that closes. Node resets this signal at its start, so that it ends a gateway behind `nohup` as well.
  process.on('SIGHUP', stopOnce)
  await listening
}

/** The part of the grace period reserved for writing the last outcomes. */
const CLOSE_MS = 2000
/** How long a slow reader of standard error is waited for. */
const FLUSH_MS = 500

/** Before anything is written there, so that Node's own warnings never wait for a reader either. */
const errorOutput = createLineOutput({ fd: 2 })

const misspelt = () => misspeltSettings(Object.keys(process.env), SETTING_NAMES)

run().catch((error: unknown) => {
  // A ConfigError names settings and rules only. The message of any other error may quote secrets.
  const reason = error instanceof ConfigError ? error.message : JSON.stringify(describeError(error))
  const hints = error instanceof ConfigError ? misspelt() : []
  errorOutput.write(`The gateway did not start. ${reason}\n`)
  for (const { variable, setting } of hints)
    errorOutput.write(`${variable} is not a setting. Did you mean ${setting}?\n`)
  errorOutput.flush(FLUSH_MS)
  process.exit(1)
})
