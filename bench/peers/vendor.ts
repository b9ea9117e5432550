import openapi from '@alicloud/openapi-client'
import teaUtil from '@alicloud/tea-util'
import { keys, upstream } from './common.ts'

const { default: Client, Config, OpenApiRequest, Params } = openapi
const url = new URL(upstream)

const client = new Client(new Config({ ...keys, endpoint: url.host, protocol: url.protocol.slice(0, -1) }))

const CANCEL = new Params({
  action: 'CancelTask',
  version: '2018-01-29',
  protocol: url.protocol.slice(0, -1),
  pathname: '/',
  method: 'POST',
  authType: 'AK',
  style: 'RPC',
  reqBodyType: 'formData',
  bodyType: 'json',
})

/** Cancels with the vendor's client; resolves with the RequestId of the upstream. */
export const cancelTask = async (taskNo: string, address: string): Promise<string> => {
  const request = new OpenApiRequest({ query: { TaskNo: taskNo, UserClientIp: address } })
  const answer = await client.callApi(CANCEL, request, new teaUtil.RuntimeOptions({}))
  return String(answer.body.RequestId)
}
