/** @typedef {'en' | 'zh'} Lang */

/** Every text of the page, in both languages. `{name}` is a placeholder for a value. */
export const TEXTS = {
  title: { en: 'Domain tasks', zh: '域名任务' },
  'language.other': { en: '中文', zh: 'English' },
  'skip.main': { en: 'Skip to content', zh: '跳到主要内容' },
  loading: { en: 'Loading…', zh: '正在加载…' },
  none: { en: '–', zh: '–' },
  refresh: { en: 'Refresh', zh: '刷新' },
  retry: { en: 'Try again', zh: '重试' },
  close: { en: 'Close', zh: '关闭' },
  apply: { en: 'Apply', zh: '应用' },

  'nav.label': { en: 'Main navigation', zh: '主导航' },
  'nav.tasks': { en: 'Tasks', zh: '任务' },
  'nav.history': { en: 'History', zh: '取消记录' },

  'who.via': { en: '{name} ({via})', zh: '{name}（{via}）' },
  'who.display-name': { en: 'Name stated by the identity provider', zh: '身份提供方提供的姓名' },
  'who.may': { en: 'You may: {scopes}', zh: '您的权限：{scopes}' },
  'who.may-nothing': {
    en: 'You have no permissions yet. Ask the operator of the gateway.',
    zh: '您尚未获得任何权限。请联系网关运维人员。',
  },
  'who.sign-out': { en: 'Sign out', zh: '退出登录' },
  'via.api-key': { en: 'API key', zh: 'API 密钥' },
  'via.jwt': { en: 'token', zh: '令牌' },
  'via.session': { en: 'signed in', zh: '已登录' },
  'via.anonymous': { en: 'no sign-in needed', zh: '无需登录' },
  'scope.tasks:cancel': { en: 'cancel tasks', zh: '取消任务' },
  'scope.tasks:read': { en: 'read tasks', zh: '查看任务' },
  'scope.audit:read': { en: 'read the history', zh: '查看取消记录' },

  'sign-in.heading': { en: 'Sign in', zh: '登录' },
  'sign-in.lead': { en: 'View and cancel domain tasks. Sign in first.', zh: '登录后可查看和取消域名任务。' },
  'sign-in.ended': {
    en: 'You are no longer signed in. Sign in again to continue.',
    zh: '您的登录已失效。请重新登录后继续操作。',
  },
  'sign-in.provider': { en: 'Sign in with your account', zh: '使用账号登录' },
  'sign-in.or': { en: 'or with an API key', zh: '或使用 API 密钥' },
  'sign-in.key': { en: 'API key', zh: 'API 密钥' },
  'sign-in.key-hint': {
    en: 'The key is kept only in the memory of this page. It is gone when you close or reload the page.',
    zh: '密钥仅保存在本页面的内存中。关闭或刷新页面后，密钥即被清除。',
  },
  'sign-in.key-submit': { en: 'Use this key', zh: '使用此密钥' },

  'tasks.heading': { en: 'Tasks', zh: '任务' },
  'tasks.from': { en: 'Created from', zh: '创建日期（起）' },
  'tasks.to': { en: 'Created to', zh: '创建日期（止）' },
  'tasks.days-hint': { en: 'Whole days in UTC+8', zh: '按 UTC+8 时区的自然日计算' },
  'tasks.page-size': { en: 'Rows per page', zh: '每页条数' },
  'tasks.go-label': { en: 'Task number', zh: '任务编号' },
  'tasks.go': { en: 'Open task', zh: '打开任务' },
  'tasks.filter': { en: 'Filter tasks', zh: '筛选任务' },
  'tasks.empty': { en: 'No tasks', zh: '暂无任务' },
  'tasks.empty-hint': {
    en: 'There are no tasks in this date range or on this page.',
    zh: '所选日期范围内或本页没有任务。',
  },
  'tasks.forbidden': { en: 'You may not see the list of tasks', zh: '您无权查看任务列表' },
  'tasks.forbidden-hint': {
    en: 'Your permissions do not cover the list of all tasks. If you know the number of a task, open it above.',
    zh: '您的权限不包含任务列表。如果您知道任务编号，可在上方直接打开任务。',
  },
  'tasks.caption': { en: 'Tasks, newest first', zh: '任务列表（按创建时间倒序）' },

  'task.heading': { en: 'Task', zh: '任务' },
  'task.back': { en: 'All tasks', zh: '全部任务' },
  'task.no': { en: 'Task number', zh: '任务编号' },
  'task.type': { en: 'Type', zh: '类型' },
  'task.status': { en: 'Status', zh: '状态' },
  'task.cancel-status': { en: 'Cancellation', zh: '取消状态' },
  'task.domains': { en: 'Domains', zh: '域名数' },
  'task.created': { en: 'Created', zh: '创建时间' },
  'task.client-ip': { en: 'Created from address', zh: '创建者 IP 地址' },
  'task.actions': { en: 'Action', zh: '操作' },
  'task.cancel': { en: 'Cancel task…', zh: '取消任务…' },
  'task.cancel-one': { en: 'Cancel task {taskNo}…', zh: '取消任务 {taskNo}…' },
  'task.history': { en: 'History of this task', zh: '此任务的取消记录' },
  'task.not-readable': { en: 'You may not see this task', zh: '您无权查看此任务' },
  'task.not-readable-hint': {
    en: 'You may cancel tasks, but not read them. Make sure that the number is correct.',
    zh: '您可以取消任务，但无权查看任务。请确认任务编号正确无误。',
  },
  'task.changed': { en: 'Task {taskNo}: {status}', zh: '任务 {taskNo}：{status}' },

  'status.waiting': { en: 'Waiting', zh: '等待执行' },
  'status.executing': { en: 'Executing', zh: '执行中' },
  'status.complete': { en: 'Complete', zh: '已完成' },
  'status.succeeded': { en: 'Succeeded', zh: '成功' },
  'status.failed': { en: 'Failed', zh: '失败' },
  'status.unknown': { en: 'Unknown', zh: '未知' },
  'cancel-status.none': { en: 'Not cancelled', zh: '未取消' },
  'cancel-status.accepted': { en: 'Accepted', zh: '已受理' },
  'cancel-status.cancelling': { en: 'Being cancelled', zh: '取消中' },
  'cancel-status.cancelled': { en: 'Cancelled', zh: '已取消' },
  'cancel-status.unknown': { en: 'Unknown', zh: '未知' },

  'details.heading': { en: 'Details for each domain', zh: '各域名的执行情况' },
  'details.caption': { en: 'Details of the task', zh: '任务详情' },
  'details.domain': { en: 'Domain', zh: '域名' },
  'details.attempts': { en: 'Attempts', zh: '尝试次数' },
  'details.updated': { en: 'Updated', zh: '更新时间' },
  'details.message': { en: 'Message', zh: '说明' },
  'details.empty': { en: 'No details', zh: '没有详情' },
  'details.empty-hint': { en: 'There are no details on this page.', zh: '本页没有任务详情。' },

  'pages.label': { en: 'Pages of the list', zh: '列表分页' },
  'pages.page': { en: 'Page {page}', zh: '第 {page} 页' },
  'pages.range': { en: '{from}–{to} of {total}', zh: '第 {from}–{to} 条，共 {total} 条' },
  'pages.previous': { en: 'Previous', zh: '上一页' },
  'pages.next': { en: 'Next', zh: '下一页' },
  'pages.newest': { en: 'Newest', zh: '最新' },
  'pages.older': { en: 'Older', zh: '更早' },

  'cancel.heading': { en: 'Cancel this task?', zh: '确定要取消此任务吗？' },
  'cancel.lead': {
    en: 'The request is sent to Alibaba Cloud immediately. It cannot be undone.',
    zh: '请求将立即发送至阿里云，且无法撤销。',
  },
  'cancel.blind': {
    en: 'You may not read tasks, so the type and the domains cannot be shown. Make sure that the number is correct.',
    zh: '您无权查看任务，因此无法显示其类型和域名。请确认任务编号正确无误。',
  },
  'cancel.domains': { en: 'Domains ({count})', zh: '域名（{count}）' },
  'cancel.more': { en: 'and more, on later pages of the details', zh: '其余域名请查看任务详情' },
  'cancel.confirm': { en: 'Yes, cancel the task', zh: '确认取消任务' },
  'cancel.keep': { en: 'Keep the task', zh: '保留任务' },
  'cancel.waiting': { en: 'Cancelling…', zh: '正在取消…' },
  'cancel.waiting-lead': {
    en: 'The request was sent. The gateway checks the task for a few seconds.',
    zh: '请求已发送。网关将在数秒内持续查询任务状态。',
  },
  'cancel.elapsed': { en: 'Elapsed', zh: '已用时' },
  'cancel.seconds': { en: '{count} s', zh: '{count} 秒' },
  'cancel.stop': { en: 'Stop waiting', zh: '停止等待' },
  'cancel.now': { en: 'Current state of the task', zh: '任务当前状态' },
  'cancel.accepted': { en: 'The cancellation is accepted', zh: '取消请求已受理' },
  'cancel.accepted-lead': {
    en: 'Alibaba Cloud accepted the request. The result is not known yet.',
    zh: '阿里云已受理该请求，取消结果尚未确定。',
  },
  'cancel.cancelling': { en: 'The task is being cancelled', zh: '任务正在取消' },
  'cancel.cancelling-lead': {
    en: 'Alibaba Cloud is cancelling the task. This page continues to check its state.',
    zh: '阿里云正在取消任务。本页面会继续查询任务状态。',
  },
  'cancel.cancelled': { en: 'The task is cancelled', zh: '任务已取消' },
  'cancel.cancelled-lead': { en: 'Alibaba Cloud reports the task as cancelled.', zh: '阿里云显示该任务已取消。' },
  'cancel.refused': { en: 'The task was not cancelled', zh: '任务未被取消' },
  'cancel.unknown': { en: 'The cancellation may have happened', zh: '取消操作可能已生效' },
  'cancel.unknown-lead': {
    en: 'Do not cancel again before you know the result. The current state of the task is shown below.',
    zh: '在确认结果之前，请勿再次取消。下方显示任务的当前状态。',
  },
  'cancel.stopped': { en: 'You stopped waiting', zh: '您已停止等待' },
  'cancel.stopped-hint': {
    en: 'The request was sent. To stop waiting does not undo it. The gateway has an audit record of it.',
    zh: '请求已发送，停止等待不会撤销请求。网关已保存审计记录。',
  },
  'cancel.not-seen': { en: 'Not known yet', zh: '尚未获取' },
  'cancel.failed-to-show': {
    en: 'The task cannot be shown, so you cannot cancel it here.',
    zh: '无法显示要取消的任务，因此不能在此处取消。',
  },
  'cancel.id': { en: 'Cancellation id', zh: '取消记录 ID' },
  'cancel.request-id': { en: 'Alibaba Cloud request id', zh: '阿里云请求 ID' },

  'history.heading': { en: 'History of cancellations', zh: '取消记录' },
  'history.caption': { en: 'Cancellations, newest first', zh: '取消记录（按请求时间倒序）' },
  'history.filter': { en: 'Filter the history', zh: '筛选取消记录' },
  'history.any': { en: 'Any outcome', zh: '全部结果' },
  'history.empty': { en: 'No cancellations', zh: '暂无取消记录' },
  'history.empty-hint': { en: 'No audit record matches the filter.', zh: '没有符合筛选条件的记录。' },
  'history.when': { en: 'Requested', zh: '请求时间' },
  'history.outcome': { en: 'Outcome', zh: '结果' },
  'history.caller': { en: 'Caller', zh: '调用者' },
  'history.address': { en: 'IP address', zh: 'IP 地址' },
  'history.more': { en: 'More', zh: '更多' },
  'history.more-of': { en: 'More of {id}', zh: '{id} 的更多信息' },
  'history.finished': { en: 'Outcome known since', zh: '结果确定时间' },
  'history.attempts': { en: 'Attempts', zh: '尝试次数' },
  'history.refusals': { en: 'Refused requests in this record', zh: '此记录包含的拒绝次数' },
  'history.gateway-id': { en: 'Gateway request id', zh: '网关请求 ID' },
  'history.upstream-code': { en: 'Alibaba Cloud code', zh: '阿里云错误码' },
  'history.user-agent': { en: 'User agent', zh: '用户代理' },
  'history.settled': { en: 'Determined by reading the task', zh: '通过查询任务确定' },
  'outcome.pending': { en: 'In progress', zh: '进行中' },
  'outcome.refused': { en: 'Refused by the gateway', zh: '被网关拒绝' },
  'outcome.accepted': { en: 'Accepted', zh: '已受理' },
  'outcome.cancelled': { en: 'Cancelled', zh: '已取消' },
  'outcome.too-late': { en: 'Completed, not cancelled', zh: '任务已完成，未取消' },
  'outcome.rejected': { en: 'Rejected by Alibaba Cloud', zh: '被阿里云拒绝' },
  'outcome.failed': { en: 'Failed, no effect', zh: '失败，未生效' },
  'outcome.unknown': { en: 'Unknown', zh: '未知' },

  'problem.unreachable': { en: 'The gateway cannot be reached', zh: '无法连接网关' },
  'problem.unreachable-detail': {
    en: 'There was no response. The network or the gateway is not available.',
    zh: '未收到响应。网络或网关不可用。',
  },
  'problem.unreadable': { en: 'The response cannot be read', zh: '无法读取响应' },
  'problem.unreadable-detail': {
    en: 'The response seems to come from a system between this page and the gateway.',
    zh: '该响应可能来自本页面与网关之间的中间系统。',
  },
  'problem.effect': { en: 'Was the task cancelled?', zh: '任务是否已取消？' },
  'problem.not-cancelled': { en: 'No. This request cancelled nothing.', zh: '否。该请求未取消任何任务。' },
  'problem.unknown': {
    en: 'Possibly. The cancellation may have happened. Check the task first.',
    zh: '可能。取消操作可能已生效，请先查看任务。',
  },
  'problem.again': { en: 'Can you try again?', zh: '是否可以重试？' },
  'problem.retryable': { en: 'Yes. Try again a little later.', zh: '是。请稍后重试。' },
  'problem.retry-after': { en: 'Yes, in {count} s or later.', zh: '是。请在 {count} 秒后重试。' },
  'problem.not-retryable': { en: 'No, not as it is.', zh: '否。请勿原样重试。' },
  'problem.code': { en: 'Code', zh: '错误码' },
  'problem.page': { en: 'Explanation', zh: '查看说明' },
  'problem.new-tab': { en: '(new tab)', zh: '（新标签页）' },
}

/** @typedef {keyof typeof TEXTS} TextKey */

const STORED_AS = 'language'

/** @returns {Lang} */
const initialLanguage = () => {
  const wanted = [stored(), ...navigator.languages].map((tag) => tag.slice(0, 2).toLowerCase())
  return wanted.find((tag) => tag === 'en' || tag === 'zh') === 'zh' ? 'zh' : 'en'
}

/** An empty text if the browser does not give the page any storage. */
const stored = () => {
  try {
    return localStorage.getItem(STORED_AS) ?? ''
  } catch {
    return ''
  }
}

/** @type {Lang | undefined} */
let current

export const language = () => {
  current ??= initialLanguage()
  return current
}

/** @param {Lang} lang */
export const setLanguage = (lang) => {
  current = lang
  try {
    localStorage.setItem(STORED_AS, lang)
  } catch {
    // The language applies until the page is closed.
  }
}

/**
 * The text in the language of the page.
 * @param {TextKey} key
 * @param {Readonly<Record<string, string | number>>} [values]
 */
export const t = (key, values = {}) =>
  TEXTS[key][language()].replace(/\{(\w+)\}/g, (_, name) => String(values[name] ?? ''))

/** @type {Readonly<Record<Lang, string>>} */
const LOCALES = { en: 'en-GB', zh: 'zh-CN' }

/** @param {Date} date */
export const formatTime = (date) =>
  new Intl.DateTimeFormat(LOCALES[language()], { dateStyle: 'medium', timeStyle: 'medium' }).format(date)
