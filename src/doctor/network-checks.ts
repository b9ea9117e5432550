import { createServer } from 'node:http'
import { isIPv6 } from 'node:net'
import { isLoopback } from '../addresses.ts'
import { ConfigError } from '../errors.ts'
import { openPort, type Port } from '../http/server/listen.ts'
import { createCollectingLog, type Finding, failure, ok, reasonIn, warning } from './finding.ts'
import type { Subject } from './subject.ts'

/** Both ports at the same time: they must differ. A port of a running gateway is sound. */
export const checkPorts = async ({ config }: Subject): Promise<Finding> => {
  const servers = [createServer(), createServer()] as const
  const inUse: string[] = []
  try {
    for (const [server, place, prefix] of [
      [servers[0], { host: config.host, port: config.port }, ''],
      [servers[1], config.admin, 'ADMIN_'],
    ] as const) {
      const fault = await openPort(server, place, prefix).then(() => null, faultOf)
      if (fault === null) continue
      if (!(await isGateway(place))) return failure(fault, 'Choose another port, or end that program.')
      inUse.push(`${prefix}PORT`)
    }
  } finally {
    for (const server of servers) server.close()
  }
  return inUse.length === 0 ? ok('PORT and ADMIN_PORT are free') : ok(`a running gateway uses ${inUse.join(', ')}`)
}

const faultOf = (error: unknown): string => {
  if (error instanceof ConfigError) return error.faults.join('; ')
  throw error
}

const RESPONSE_MS = 2000
const ANY_ADDRESS: readonly (string | undefined)[] = [undefined, '0.0.0.0', '::']

/** Whether the server on that port answers `GET /livez` as a gateway does. */
const isGateway = async ({ host, port }: Port): Promise<boolean> => {
  const name = host === undefined || ANY_ADDRESS.includes(host) ? '127.0.0.1' : host
  const url = `http://${isIPv6(name) ? `[${name}]` : name}:${port}/livez`
  try {
    const response = await fetch(url, { redirect: 'manual', signal: AbortSignal.timeout(RESPONSE_MS) })
    return response.headers.has('x-request-id') && (await response.text()) === '{"status":"ok"}'
  } catch {
    return false
  }
}

/** The proxies that are trusted against the address that callers use. */
export const checkProxyTrust = async ({ config, env }: Subject): Promise<Finding> => {
  const isTrusting = (env.TRUST_PROXY?.trim() ?? '') !== ''
  const { publicUrl, host, trustProxy } = config
  const isPublic = publicUrl !== undefined && !isLoopback(new URL(publicUrl).hostname)
  if (isPublic && !isTrusting) {
    return warning(
      'PUBLIC_URL is the address of a proxy, and TRUST_PROXY names none: each caller has the address of the proxy',
      'Set TRUST_PROXY to the addresses of the proxy.',
    )
  }
  if (isPublic && host !== undefined && isLoopback(host) && !['127.0.0.1', '::1'].some(trustProxy.has)) {
    return warning(
      'only a proxy on this machine can reach HOST, and TRUST_PROXY does not name it',
      'Add 127.0.0.1 to TRUST_PROXY.',
    )
  }
  if (isTrusting && publicUrl === undefined) {
    return warning(
      'TRUST_PROXY names a proxy, and PUBLIC_URL is not set',
      'Set PUBLIC_URL to the address of the proxy.',
    )
  }
  return ok('TRUST_PROXY and PUBLIC_URL agree')
}

/** The trace collector: one span is sent. */
export const checkCollector = async ({ config: { otlpEndpoint: endpoint }, instanceId }: Subject): Promise<Finding> => {
  if (endpoint === undefined) return ok('OTEL_EXPORTER_OTLP_ENDPOINT is not set')
  const log = createCollectingLog()
  const results: string[] = []
  const meter = { spans: (result: string) => void results.push(result) }
  const { createTracing } = await import('../telemetry/otel.ts')
  const tracing = createTracing({ endpoint, instanceId, log, meter })
  await tracing.span('doctor', 'internal', async () => undefined)
  await tracing.close().catch(() => undefined)
  return results.includes('exported')
    ? ok('the trace collector accepts spans')
    : warning(
        `the trace collector does not accept spans: ${reasonIn(log.lines)}`,
        'Check OTEL_EXPORTER_OTLP_ENDPOINT. Requests do not depend on it.',
      )
}
