"""Every layout by name. A layout is `(ui, content) -> html`."""

from collections.abc import Callable

from . import layouts_desk as desk
from . import layouts_forms as forms
from . import layouts_lists as lists
from . import layouts_map as maps
from . import layouts_media as media
from . import layouts_modal as modal
from . import layouts_numbers as numbers
from . import layouts_shop as shop
from . import layouts_typing as typing
from .content import Content
from .kits import Kit

Layout = Callable[[Kit, Content], str]

LAYOUTS: dict[str, Layout] = {
    "settings": lists.settings,
    "profile": media.profile,
    "login": forms.login,
    "sign-up": forms.sign_up,
    "chat-list": lists.chat_list,
    "conversation": lists.conversation,
    "mail-list": lists.mail_list,
    "mail-detail": lists.mail_detail,
    "shop-grid": shop.shop_grid,
    "product-page": shop.product_page,
    "cart": shop.cart,
    "player": media.player,
    "dashboard": numbers.dashboard,
    "table": numbers.table,
    "dialog": modal.dialog,
    "action-sheet": modal.action_sheet,
    "popover-menu": modal.popover_menu,
    "onboarding": forms.onboarding,
    "empty-state": forms.empty_state,
    "search-results": forms.search_results,
    "agenda": numbers.agenda,
    "notifications": lists.notifications,
    "file-browser": lists.file_browser,
    "gallery": media.gallery,
    "contacts": lists.contacts,
    "feed": media.feed,
    "controls": media.controls,
    "toast": modal.toast_page,
    "map": maps.map_page,
    "typing-chat": typing.typing_chat,
    "typing-form": typing.typing_form,
    "typing-search": typing.typing_search,
    "passcode": typing.passcode,
    "data-table": desk.data_table,
    "board": desk.board,
    "filters": desk.filter_page,
}

# Never trained on, so that a score on them is a score on unseen arrangements.
HELD_OUT = ("mail-detail", "product-page", "agenda", "file-browser")
