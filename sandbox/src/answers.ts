import { randomUUID } from 'node:crypto'
import type { ServerResponse } from 'node:http'
import { canonicalQuery } from '../../src/alibaba/signing.ts'
import type { ActionResult } from './actions.ts'
import type { Claim } from './claim.ts'
import type { Decision } from './decision.ts'
import { type Failure, failure } from './failures.ts'
import type { FailureReply } from './faults.ts'
import { type FaultContext, type Reply, sendFault, sendReply } from './replies.ts'

type SendContext = Pick<FaultContext, 'socket' | 'elsewhere'>

const HOST_ID = 'domain.aliyuncs.com'

/** Sends what was decided, right or wrong. */
export const sendAnswer = (res: ServerResponse, { claim, fault, result }: Decision, context: SendContext): void => {
  const requestId = randomUUID().toUpperCase()
  const right = rightReply(requestId, claim, result)
  if (fault === undefined) sendReply(res, right)
  else if (typeof fault.reply === 'object') sendReply(res, scriptedReply(requestId, fault.reply))
  else sendFault(fault.reply, res, { ...context, right, envelope: envelopeOf(claim, right) })
}

/** For what the sandbox itself can't do, such as reading a body that is far too long. */
export const sendBreakdown = (res: ServerResponse): void => {
  const { code, status, en } = failure('InternalError')
  if (res.headersSent) res.destroy()
  else sendReply(res, { status, body: failureBody(randomUUID().toUpperCase(), code, en) })
}

const scriptedReply = (requestId: string, reply: FailureReply): Reply => {
  const { code, status, message = 'sandbox fault', headers } = reply
  return { status, body: failureBody(requestId, code, message), headers }
}

const rightReply = (requestId: string, claim: Claim, { failure: found, fields }: ActionResult): Reply =>
  found === null
    ? { status: 200, body: { RequestId: requestId, ...fields } }
    : { status: found.status, body: failureBody(requestId, found.code, messageOf(found, claim)) }

const messageOf = ({ en, zh }: Failure, { params }: Claim): string => (params.Lang === 'zh' ? zh : en)

const failureBody = (requestId: string, code: string, message: string): Reply['body'] => ({
  RequestId: requestId,
  HostId: HOST_ID,
  Code: code,
  Message: message,
})

/** The form that the vendor's page on CancelTask shows, which gives the caller's own signed address back. */
const envelopeOf = ({ params, accessKeyId, signature }: Claim, { status, body }: Reply): Reply => {
  const { Code = '200', Message = 'success' } = body
  const signed = canonicalQuery({ ...params, AccessKeyId: accessKeyId, Signature: signature })
  return {
    status,
    body: {
      code: Code,
      data: { HostId: HOST_ID, Code, Message, ...body },
      name: Code === '200' ? 'TaskCancellSuccess' : Code,
      message: Message,
      url: `http://127.0.0.1/?${signed}`,
    },
  }
}
