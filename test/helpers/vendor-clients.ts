import openapi from '@alicloud/openapi-core'
import RpcClient from '@alicloud/pop-core'
import type { Credentials } from '../../src/alibaba/signing.ts'

// The vendor's clients, as test oracles. Both are CommonJS with loose types; only this file narrows them.

type Params = Readonly<Record<string, string>>

export interface VendorCall {
  readonly url: string
  readonly keys: Credentials
  readonly action: string
  readonly params: Params
  readonly method: 'GET' | 'POST'
  /** The API version; default: the version that the gateway uses. */
  readonly version?: string
  /** Only for `callOpenApi`: parameters in a form body instead of the query. */
  readonly asForm?: boolean
}

export type VendorAnswer = Readonly<Record<string, unknown>>

const VERSION = '2018-01-29'

/** A call by `@alicloud/pop-core`, which signs as rpc-v1. Rejects with an error that has `code`. */
export const callPopCore = ({
  url,
  keys,
  action,
  params,
  method,
  version = VERSION,
}: VendorCall): Promise<VendorAnswer> => {
  const { accessKeyId, accessKeySecret, securityToken } = keys
  const client = new RpcClient({
    endpoint: url,
    apiVersion: version,
    accessKeyId,
    accessKeySecret,
    ...(securityToken === undefined ? {} : { securityToken }),
  })
  return client.request<VendorAnswer>(action, { ...params }, { method, formatParams: false })
}

/** A call by `@alicloud/openapi-core`, which signs as acs3. Rejects with an error that has `code`. */
export const callOpenApi = async ({
  url,
  keys,
  action,
  params,
  method,
  version = VERSION,
  asForm = false,
}: VendorCall): Promise<VendorAnswer> => {
  const client = openApiClient(url, keys)
  const request = new openapi.$OpenApiUtil.OpenApiRequest(asForm ? { body: params } : { query: params })
  const operation = new openapi.$OpenApiUtil.Params({ ...OPERATION, version, action, method })
  const answer = await client.doRequest(operation, request, noRuntimeOptions())
  return answer.body
}

/** The same client with its older signature, and parameters in both query and form. */
export const callOpenApiRpc = async ({ url, keys, action, params, method }: VendorCall): Promise<VendorAnswer> => {
  const client = openApiClient(url, keys)
  const request = new openapi.$OpenApiUtil.OpenApiRequest({ query: { Lang: 'en' }, body: params })
  const answer = await client.doRPCRequest(action, VERSION, 'HTTP', method, 'AK', 'json', request, noRuntimeOptions())
  return answer.body
}

/** The `Authorization` header of `@alicloud/openapi-core` for a request to `/`. */
export const openApiAuthorization = (
  request: { readonly method: string; readonly query: Params; readonly headers: Params },
  payloadHash: string,
  { accessKeyId, accessKeySecret }: Credentials,
): string =>
  openapi.OpenApiUtil.getAuthorization(
    { ...request, pathname: '/' } as unknown as Parameters<typeof openapi.OpenApiUtil.getAuthorization>[0],
    'ACS3-HMAC-SHA256',
    payloadHash,
    accessKeyId,
    accessKeySecret,
  )

const OPERATION = {
  protocol: 'HTTP',
  pathname: '/',
  authType: 'AK',
  style: 'RPC',
  reqBodyType: 'formData',
  bodyType: 'json',
} as const

const openApiClient = (url: string, { accessKeyId, accessKeySecret, securityToken }: Credentials) =>
  new openapi.default(
    new openapi.$OpenApiUtil.Config({
      accessKeyId,
      accessKeySecret,
      endpoint: new URL(url).host,
      protocol: 'HTTP',
      ...(securityToken === undefined ? {} : { securityToken, type: 'sts' }),
    }),
  )

/** The class of the options is in a package that is not a dependency; the client only reads its fields. */
const noRuntimeOptions = () => ({}) as Parameters<InstanceType<typeof openapi.default>['doRequest']>[2]
