import { lookup } from 'node:dns/promises'
import { isIP } from 'node:net'
import { RAM_ACTIONS } from '../alibaba/ram-actions.ts'
import type { UpstreamFailure } from '../alibaba/response.ts'
import { describeError } from '../telemetry/log.ts'
import { deadlineIn, withDeadline } from '../time.ts'
import { type Finding, failure, ok, warning } from './finding.ts'
import type { Subject } from './subject.ts'

const LOOKUP_MS = 3000

/** The name of the endpoint, as the system resolves it. */
export const checkEndpointName = async ({ config }: Subject): Promise<Finding> => {
  const host = config.upstream.url.hostname.replace(/^\[|\]$/g, '')
  if (isIP(host) !== 0) return ok(`UPSTREAM_URL has an address, ${host}`)
  const startedAtMs = performance.now()
  const resolving = lookup(host, { all: true }).catch((error: unknown) => String(describeError(error).errorCode))
  const found = await withDeadline(deadlineIn(LOOKUP_MS), resolving, 'TIMEOUT')
  if (typeof found === 'string') {
    return failure(`${host} does not resolve (${found})`, 'Check UPSTREAM_URL and the DNS of this machine.')
  }
  return ok(`${host} resolves to ${found.map(({ address }) => address).join(', ')} in ${msSince(startedAtMs)}`)
}

const msSince = (startedAtMs: number): string => `${Math.round(performance.now() - startedAtMs)} ms`

/** Codes of Node for the reasons that TLS fails for. */
const CERTIFICATE = /CERT|SIGNATURE|ISSUER|HOSTNAME_MISMATCH/
const TLS = /^(ERR_SSL_|ERR_TLS_|EPROTO$)/

/** A response that takes this share of the timeout is a warning. */
const SLOW_SHARE = 0.5

/** Connection, TLS and latency, as the signed query finds them. */
export const checkEndpoint = async (subject: Subject): Promise<Finding> => {
  const { result, attempts, reason } = await subject.query()
  const { durationMs = 0 } = attempts.at(-1) ?? {}
  if (attempts.length === 0) {
    return warning('not checked: there are no credentials to sign a query with', 'Correct the credentials first.')
  }
  if (!result.ok && (reason !== 'response' || isForeign(result))) return endpointFailure(result, reason)
  const took = `a response took ${Math.round(durationMs)} ms, connection and TLS included`
  return durationMs > subject.config.upstream.timeoutMs * SLOW_SHARE
    ? warning(took, 'Attempts end after UPSTREAM_TIMEOUT_MS. Raise it, or use a network with a shorter way.')
    : ok(took)
}

/** A response of another server than the Domain API, or of another version of it. */
const isForeign = ({ code, upstreamCode }: UpstreamFailure): boolean =>
  code === 'upstream-bad-response' || (code === 'upstream-misconfigured' && !isClockCode(upstreamCode))

const isClockCode = (upstreamCode: string | null): boolean =>
  /^(InvalidTimeStamp|IllegalTimestamp)/.test(upstreamCode ?? '')

const SITES = 'The sites are https://domain.aliyuncs.com (China) and https://domain-intl.aliyuncs.com (international).'

const endpointFailure = ({ sent, upstreamCode }: UpstreamFailure, reason: string | null): Finding => {
  const code = reason ?? 'no reason is known'
  if (reason === 'response') {
    return failure(
      `the response is not one of the Domain API (${upstreamCode ?? 'no code'})`,
      `Check UPSTREAM_URL, and proxies on the way. ${SITES}`,
    )
  }
  if (sent) return failure(`no response (${code})`, 'Check the network and UPSTREAM_TIMEOUT_MS, then try again.')
  if (CERTIFICATE.test(code)) {
    return failure(
      `TLS: the certificate is not accepted (${code})`,
      'Check UPSTREAM_URL and the clock. NODE_EXTRA_CA_CERTS names further authorities.',
    )
  }
  if (TLS.test(code)) return failure(`TLS fails (${code})`, 'Check that UPSTREAM_URL leads to a server with TLS 1.2.')
  return failure(`no connection (${code})`, 'Check UPSTREAM_URL, routes, and firewalls: proxies are not used.')
}

const CLOCK_WARNING_MS = 60_000

/** The clock of this machine against the `Date` of the response. */
export const checkClock = async (subject: Subject): Promise<Finding> => {
  const { attempts, clockSkewMs } = await subject.query()
  if (clockSkewMs === undefined) return notChecked('no response had a date')
  const seconds = Math.round(clockSkewMs / 1000)
  const message = `the upstream's clock differs from this machine's by ${seconds} s`
  if (attempts.some(({ result }) => result === 'clock-skew')) {
    return failure(`${message}, and the upstream rejects the time`, 'Correct NTP on this machine.')
  }
  return Math.abs(clockSkewMs) > CLOCK_WARNING_MS
    ? warning(message, 'Correct NTP on this machine: records and sessions have wrong times.')
    : ok(message)
}

const notChecked = (reason: string): Finding => warning(`not checked: ${reason}`, 'Correct the other findings first.')

/** Rejected credentials by the upstream's code: the fault and the advice. The first match counts. */
const REJECTIONS: readonly (readonly [code: RegExp, fault: string, advice: string])[] = [
  [/Inactive$|^Forbidden\.AccessKeyDisabled$/, 'the AccessKey is disabled', 'Enable it in RAM, or use another one.'],
  [
    /^(InvalidAccessKeyId|MissingAccessKeyId)/,
    'the upstream does not know the AccessKeyId',
    `Check ALIBABA_CLOUD_ACCESS_KEY_ID, and whether UPSTREAM_URL is the site of the account. ${SITES}`,
  ],
  [
    /^(SignatureDoesNotMatch|IncompleteSignature)$/,
    'the secret does not belong to the AccessKeyId',
    'Check ALIBABA_CLOUD_ACCESS_KEY_SECRET.',
  ],
  [
    /SecurityToken/,
    'the STS token is missing, expired, or of another AccessKey',
    'Check ALIBABA_CLOUD_SECURITY_TOKEN, or the source of CREDENTIALS=chain.',
  ],
]

/** Whether the upstream accepts the credentials. */
export const checkCredentials = async (subject: Subject): Promise<Finding> => {
  const { result } = await subject.query()
  if (result.ok || result.code === 'upstream-forbidden') return ok('the upstream accepts the credentials')
  const { code, upstreamCode, sent } = result
  if (code !== 'upstream-credentials-rejected') return notChecked(unansweredReason(result))
  if (!sent) {
    return failure(
      'there are no credentials',
      'Check the source of CREDENTIALS=chain: role, profile or metadata service.',
    )
  }
  const [, fault = 'the upstream rejects the credentials', advice = 'Check the AccessKey.'] =
    REJECTIONS.find(([pattern]) => pattern.test(upstreamCode ?? '')) ?? []
  return failure(`${fault} (${upstreamCode ?? 'no code'})`, advice)
}

const unansweredReason = ({ code, upstreamCode }: UpstreamFailure): string =>
  code === 'upstream-throttled'
    ? `the upstream throttles the account (${upstreamCode ?? 'no code'})`
    : `the upstream gave no usable response (${upstreamCode ?? code})`

/** Whether the RAM policy permits to read tasks. */
export const checkReadPolicy = async (subject: Subject): Promise<Finding> => {
  const { result } = await subject.query()
  if (result.ok) return ok(`the policy permits ${RAM_ACTIONS.QueryTaskList}`)
  return result.code === 'upstream-forbidden'
    ? forbidden(result, RAM_ACTIONS.QueryTaskList)
    : notChecked('the query was not executed')
}

/** Codes of the account, which no policy changes. */
const ACCOUNT = /^(InsufficientBalance|UnsupportedOperation)/

/** The finding of a call that the upstream forbids. */
export const forbidden = ({ upstreamCode }: UpstreamFailure, ramAction: string | undefined): Finding =>
  ACCOUNT.test(upstreamCode ?? '')
    ? failure(`the account cannot use the Domain API (${upstreamCode})`, 'Check balance and products of the account.')
    : failure(
        `the RAM policy does not permit ${ramAction} (${upstreamCode ?? 'no code'})`,
        'Grant the RAM user the policy in docs/deployment.md.',
      )
