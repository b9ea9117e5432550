/**
 * The RAM action that permits each operation. Both queries have the same one. Source: the vendor's table of the actions
 * of the Domain service. README.md and docs/operations.md name the same actions.
 */
export const RAM_ACTIONS: Readonly<Record<string, string>> = {
  CancelTask: 'domain:CancelTask',
  QueryTaskList: 'domain:QueryDomainTask',
  QueryTaskDetailList: 'domain:QueryDomainTask',
}
