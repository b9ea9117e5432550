/** @typedef {'en' | 'zh'} Lang */

/** Every text of the page, in both languages. `{name}` stands for a value. */
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

  'nav.label': { en: 'Pages', zh: '页面' },
  'nav.tasks': { en: 'Tasks', zh: '任务' },
  'nav.history': { en: 'History', zh: '取消记录' },

  'who.via': { en: '{name} ({via})', zh: '{name}（{via}）' },
  'who.may': { en: 'You may: {scopes}', zh: '您的权限：{scopes}' },
  'who.may-nothing': {
    en: 'Nothing is granted to you yet. Ask the operator of the gateway.',
    zh: '您尚未获得任何权限，请联系网关的运维人员。',
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
  'sign-in.lead': {
    en: 'Look at domain tasks and cancel them. First say who you are.',
    zh: '查看并取消域名任务。请先登录。',
  },
  'sign-in.ended': {
    en: 'You are no longer signed in. Sign in again to go on where you were.',
    zh: '您的登录已失效。重新登录后可继续之前的操作。',
  },
  'sign-in.provider': { en: 'Sign in with your account', zh: '使用账号登录' },
  'sign-in.or': { en: 'or with an API key', zh: '或使用 API 密钥' },
  'sign-in.key': { en: 'API key', zh: 'API 密钥' },
  'sign-in.key-hint': {
    en: 'Kept in the memory of this page only, and forgotten when you close or reload it.',
    zh: '仅保存在本页面的内存中，关闭或刷新页面后即被清除。',
  },
  'sign-in.key-submit': { en: 'Use this key', zh: '使用此密钥' },

  'tasks.heading': { en: 'Tasks', zh: '任务' },
  'tasks.from': { en: 'Created from', zh: '创建日期从' },
  'tasks.to': { en: 'Created to', zh: '创建日期至' },
  'tasks.days-hint': { en: 'Whole days in UTC+8', zh: '按 UTC+8 的整日计算' },
  'tasks.page-size': { en: 'Rows per page', zh: '每页行数' },
  'tasks.go-label': { en: 'Task number', zh: '任务编号' },
  'tasks.go': { en: 'Open task', zh: '打开任务' },
  'tasks.filter': { en: 'Filter tasks', zh: '筛选任务' },
  'tasks.empty': { en: 'No tasks here', zh: '没有任务' },
  'tasks.empty-hint': {
    en: 'There is no task in this range of days, or on this page.',
    zh: '所选日期范围内或本页上没有任务。',
  },
  'tasks.forbidden': { en: 'The list is not open to you', zh: '您无法查看任务列表' },
  'tasks.forbidden-hint': {
    en: 'What is granted to you does not cover the list of all tasks. If you know the number of a task, open it above.',
    zh: '您的权限不包含全部任务的列表。如果您知道任务编号，可在上方直接打开。',
  },
  'tasks.caption': { en: 'Tasks, newest first', zh: '任务列表，最新的在前' },

  'task.heading': { en: 'Task', zh: '任务' },
  'task.back': { en: 'All tasks', zh: '全部任务' },
  'task.no': { en: 'Task number', zh: '任务编号' },
  'task.type': { en: 'Type', zh: '类型' },
  'task.status': { en: 'Status', zh: '状态' },
  'task.cancel-status': { en: 'Cancellation', zh: '取消状态' },
  'task.domains': { en: 'Domains', zh: '域名数' },
  'task.created': { en: 'Created', zh: '创建时间' },
  'task.client-ip': { en: 'Created from address', zh: '创建者地址' },
  'task.actions': { en: 'Action', zh: '操作' },
  'task.cancel': { en: 'Cancel task…', zh: '取消任务…' },
  'task.cancel-one': { en: 'Cancel task {taskNo}…', zh: '取消任务 {taskNo}…' },
  'task.history': { en: 'History of this task', zh: '此任务的取消记录' },
  'task.not-readable': { en: 'You may not look at this task', zh: '您无法查看此任务' },
  'task.not-readable-hint': {
    en: 'You may cancel tasks, but not read them. Make sure that the number is the right one.',
    zh: '您可以取消任务，但无法查看任务。请确认任务编号正确无误。',
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

  'details.heading': { en: 'What it does, domain by domain', zh: '各域名的执行情况' },
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

  'cancel.heading': { en: 'Cancel this task?', zh: '要取消此任务吗？' },
  'cancel.lead': {
    en: 'The request goes to Alibaba Cloud at once, and cannot be taken back.',
    zh: '请求将立即发送至阿里云，且无法撤回。',
  },
  'cancel.blind': {
    en: 'You may not read tasks, so its type and domains cannot be shown. Make sure that the number is the right one.',
    zh: '您无法查看任务，因此无法显示其类型和域名。请确认任务编号正确无误。',
  },
  'cancel.domains': { en: 'Domains ({count})', zh: '域名（{count}）' },
  'cancel.more': { en: 'and more, on later pages of the details', zh: '其余域名见任务详情' },
  'cancel.confirm': { en: 'Yes, cancel the task', zh: '确认取消任务' },
  'cancel.keep': { en: 'Keep the task', zh: '保留任务' },
  'cancel.waiting': { en: 'Cancelling…', zh: '正在取消…' },
  'cancel.waiting-lead': {
    en: 'The request is sent. The gateway watches the task for a few seconds.',
    zh: '请求已发送，网关将在数秒内持续查看任务状态。',
  },
  'cancel.elapsed': { en: 'Elapsed', zh: '已用时' },
  'cancel.seconds': { en: '{count} s', zh: '{count} 秒' },
  'cancel.stop': { en: 'Stop waiting', zh: '停止等待' },
  'cancel.now': { en: 'The task now', zh: '任务当前状态' },
  'cancel.accepted': { en: 'The cancellation is accepted', zh: '取消请求已被受理' },
  'cancel.accepted-lead': {
    en: 'Alibaba Cloud accepted the request. Whether the task is cancelled shows in a moment.',
    zh: '阿里云已受理该请求，稍后可看到任务是否已取消。',
  },
  'cancel.cancelling': { en: 'The task is being cancelled', zh: '任务正在取消' },
  'cancel.cancelling-lead': {
    en: 'Alibaba Cloud is at it. This page goes on watching.',
    zh: '阿里云正在处理，本页面会继续查看状态。',
  },
  'cancel.cancelled': { en: 'The task is cancelled', zh: '任务已取消' },
  'cancel.cancelled-lead': { en: 'Alibaba Cloud shows it as cancelled.', zh: '阿里云显示该任务已取消。' },
  'cancel.refused': { en: 'The task was not cancelled', zh: '任务未被取消' },
  'cancel.unknown': { en: 'The cancellation may have happened', zh: '取消操作可能已生效' },
  'cancel.unknown-lead': {
    en: 'Do not cancel again before you know. Below is what the task looks like now.',
    zh: '在确认结果之前请勿再次取消。下方显示任务的当前状态。',
  },
  'cancel.stopped': { en: 'You stopped waiting', zh: '您已停止等待' },
  'cancel.stopped-hint': {
    en: 'The request was sent and is not taken back by that. It is on record at the gateway.',
    zh: '请求已经发送，停止等待不会撤回请求。网关已留有记录。',
  },
  'cancel.not-seen': { en: 'Not known yet', zh: '尚不清楚' },
  'cancel.failed-to-show': {
    en: 'What would be cancelled cannot be shown, so nothing is cancelled from here.',
    zh: '无法显示将被取消的内容，因此不能在此取消。',
  },
  'cancel.id': { en: 'Cancellation id', zh: '取消编号' },
  'cancel.request-id': { en: 'Alibaba Cloud request id', zh: '阿里云请求 ID' },

  'history.heading': { en: 'History of cancellations', zh: '取消记录' },
  'history.caption': { en: 'Cancellations, newest first', zh: '取消记录，最新的在前' },
  'history.filter': { en: 'Filter the history', zh: '筛选取消记录' },
  'history.any': { en: 'Any outcome', zh: '全部结果' },
  'history.empty': { en: 'No cancellations here', zh: '没有取消记录' },
  'history.empty-hint': { en: 'Nothing on record matches.', zh: '没有符合条件的记录。' },
  'history.when': { en: 'Asked', zh: '请求时间' },
  'history.outcome': { en: 'Outcome', zh: '结果' },
  'history.caller': { en: 'Caller', zh: '调用者' },
  'history.address': { en: 'Address', zh: '地址' },
  'history.more': { en: 'More', zh: '更多' },
  'history.more-of': { en: 'More of {id}', zh: '{id} 的更多信息' },
  'history.finished': { en: 'Known since', zh: '结果确定时间' },
  'history.attempts': { en: 'Attempts', zh: '尝试次数' },
  'history.refusals': { en: 'Refusals counted here', zh: '此处合并的拒绝次数' },
  'history.gateway-id': { en: 'Gateway request id', zh: '网关请求 ID' },
  'history.upstream-code': { en: 'Alibaba Cloud code', zh: '阿里云错误码' },
  'history.user-agent': { en: 'User agent', zh: '用户代理' },
  'history.settled': { en: 'Known by a look at the task', zh: '通过查看任务得知' },
  'outcome.pending': { en: 'Under way', zh: '进行中' },
  'outcome.refused': { en: 'Refused by the gateway', zh: '被网关拒绝' },
  'outcome.accepted': { en: 'Accepted', zh: '已受理' },
  'outcome.cancelled': { en: 'Cancelled', zh: '已取消' },
  'outcome.rejected': { en: 'Rejected by Alibaba Cloud', zh: '被阿里云拒绝' },
  'outcome.failed': { en: 'Failed, no effect', zh: '失败，未生效' },
  'outcome.unknown': { en: 'Unknown', zh: '未知' },

  'problem.unreachable': { en: 'The gateway cannot be reached', zh: '无法连接网关' },
  'problem.unreachable-detail': {
    en: 'No answer came: the network or the gateway is away.',
    zh: '未收到响应：网络或网关不可用。',
  },
  'problem.unreadable': { en: 'The answer cannot be read', zh: '无法读取响应' },
  'problem.unreadable-detail': {
    en: 'Something between this page and the gateway answered in its place.',
    zh: '响应似乎来自网关之外的中间环节。',
  },
  'problem.effect': { en: 'Was anything cancelled?', zh: '是否已取消？' },
  'problem.not-cancelled': { en: 'No. This request cancelled nothing.', zh: '否。该请求没有取消任何任务。' },
  'problem.unknown': {
    en: 'Possibly. The cancellation may have happened: look at the task first.',
    zh: '有可能。取消操作可能已生效，请先查看任务。',
  },
  'problem.again': { en: 'Does trying again make sense?', zh: '是否可以重试？' },
  'problem.retryable': { en: 'Yes, a little later.', zh: '可以，请稍后再试。' },
  'problem.retry-after': { en: 'Yes, in {count} s or later.', zh: '可以，请在 {count} 秒后再试。' },
  'problem.not-retryable': { en: 'No, not as it is.', zh: '不宜原样重试。' },
  'problem.code': { en: 'Code', zh: '代码' },
  'problem.page': { en: 'What this means', zh: '查看说明' },
  'problem.new-tab': { en: '(new tab)', zh: '（新标签页）' },
}

/** @typedef {keyof typeof TEXTS} TextKey */

const STORED_AS = 'language'

/** @returns {Lang} */
const initialLanguage = () => {
  const wanted = [stored(), ...navigator.languages].map((tag) => tag.slice(0, 2).toLowerCase())
  return wanted.find((tag) => tag === 'en' || tag === 'zh') === 'zh' ? 'zh' : 'en'
}

/** Where the browser keeps nothing for pages, nothing is remembered. */
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
    // It holds until the page is left.
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
