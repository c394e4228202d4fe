"""Semantic icon names and the glyph that draws each in the four icon sets.

A row of `TABLE` is: our name, then the glyph in framework7-icons, Material Icons,
Ionicons and Bootstrap Icons. A missing glyph in a ligature font draws nothing and
raises nothing, so `missing` compares the table with the installed packages.
"""

import re
from pathlib import Path

TABLE = """
back          chevron_left         arrow_back          chevron-back     chevron-left
forward       -                    arrow_forward       arrow-forward    arrow-right
chevron-right chevron_right        chevron_right       chevron-forward  chevron-right
chevron-down  chevron_down         expand_more         chevron-down     chevron-down
chevron-up    chevron_up           expand_less         chevron-up       chevron-up
search        search               search              search           search
settings      gear                 settings            settings         gear
add           plus                 add                 add              plus-lg
close         xmark                close               close            x-lg
menu          line_horizontal_3    menu                menu             list
more          ellipsis             more_vert           ellipsis-vertical three-dots
share         square_arrow_up      share               share            share
heart         heart                favorite_border     heart-outline    heart
heart-filled  heart_fill           favorite            heart            heart-fill
star          star                 star_border         star-outline     star
star-filled   star_fill            star                star             star-fill
trash         trash                delete              trash            trash
edit          pencil               edit                pencil           pencil
home          house_fill           home                home             house-door
person        person               person              person           person
people        person_2             group               people           people
person-add    person_badge_plus    person_add          person-add       person-plus
person-circle person_crop_circle   account_circle      person-circle    person-circle
camera        camera               photo_camera        camera           camera
mail          envelope             mail_outline        mail-outline     envelope
mail-open     envelope_open        drafts              mail-open        envelope-open
phone         phone                phone               call             telephone
video         videocam             videocam            videocam         camera-video
play          play_fill            play_arrow          play             play-fill
pause         pause_fill           pause               pause            pause-fill
next          forward_end_fill     skip_next           play-skip-forward skip-end-fill
previous      backward_end_fill    skip_previous       play-skip-back   skip-start-fill
shuffle       shuffle              shuffle             shuffle          shuffle
repeat        repeat               repeat              repeat           repeat
volume-low    speaker_1            volume_down         volume-low       volume-down
volume-high   speaker_3            volume_up           volume-high      volume-up
mute          speaker_slash        volume_off          volume-mute      volume-mute
microphone    mic                  mic                 mic              mic
headphones    headphones           headphones          headset          headphones
music         music_note           music_note          musical-notes    music-note
bell          bell                 notifications       notifications    bell
bell-off      bell_slash           notifications_off   notifications-off bell-slash
lock          lock                 lock                lock-closed      lock
unlock        lock_open            lock_open           lock-open        unlock
key           -                    vpn_key             key              key
shield        shield               shield              shield           shield
eye           eye                  visibility          eye              eye
eye-off       eye_slash            visibility_off      eye-off          eye-slash
download      arrow_down_to_line   download            download         download
upload        arrow_up_to_line     upload              cloud-upload     upload
cloud         cloud                cloud_queue         cloud            cloud
cart          cart                 shopping_cart       cart             cart
bag           bag                  local_mall          bag-handle       bag
gift          gift                 card_giftcard       gift             gift
tag           tag                  local_offer         pricetag         tag
card          creditcard           credit_card         card             credit-card
wallet        money_dollar_circle  account_balance_wallet wallet        wallet2
calendar      calendar             calendar_today      calendar         calendar
clock         clock                schedule            time             clock
timer         timer                timer               timer            stopwatch
alarm         alarm                alarm               alarm            alarm
location      placemark            location_on         location         geo-alt
map           map                  map                 map              map
navigate      location_north       navigation          navigate         -
compass       compass              explore             compass          compass
globe         globe                language            globe            globe
info          info_circle          info                information-circle info-circle
help          question_circle      help_outline        help-circle      question-circle
warning      exclamationmark_triangle warning      warning          exclamation-triangle
check         checkmark            check               checkmark        check-lg
check-circle  checkmark_circle     check_circle        checkmark-circle check-circle
backspace     delete_left          backspace           backspace        backspace
shift         shift                -                   -                shift
minus         minus                remove              remove           dash-lg
wifi          wifi                 wifi                wifi             wifi
bluetooth     -                    bluetooth           bluetooth        bluetooth
airplane      airplane             flight              airplane         airplane
battery       battery_100          battery_full        battery-full     battery-full
bolt          bolt                 bolt                flash            lightning
moon          moon                 dark_mode           moon             moon
sun           sun_max              light_mode          sunny            sun
display       device_phone_portrait smartphone         phone-portrait   phone
laptop        device_laptop        laptop              laptop           laptop
printer       printer              print               print            printer
storage       -                    storage             server           hdd
folder        folder               folder              folder           folder
document      doc                  description         document         file-earmark
document-text doc_text             article             document-text    file-text
copy          doc_on_doc           content_copy        copy             copy
paperclip     paperclip            attach_file         attach           paperclip
link          link                 link                link             link
bookmark      bookmark             bookmark_border     bookmark-outline bookmark
archive       archivebox           archive             archive          archive
inbox         tray                 inbox               file-tray        inbox
send          paperplane           send                send             send
reply         arrowshape_turn_up_left reply            arrow-undo       reply
forward-mail  arrowshape_turn_up_right forward         arrow-redo       forward
compose       square_pencil        edit_note           create           pencil-square
flag          flag                 flag                flag             flag
filter        slider_horizontal_3  tune                options          sliders
sort          arrow_up_arrow_down  sort                swap-vertical    sort-down
list          list_bullet          list                list             list-ul
grid          square_grid_2x2      grid_view           grid             grid
refresh       arrow_clockwise      refresh             refresh          arrow-clockwise
undo arrow_uturn_left undo return-up-back arrow-counterclockwise
chat          chat_bubble          chat_bubble_outline chatbubble       chat
chats         chat_bubble_2        forum               chatbubbles      chat-dots
photo         photo                image               image            image
photos        photo_on_rectangle   photo_library       images           images
film          film                 movie               film             film
game          gamecontroller       sports_esports      game-controller  controller
book          book                 menu_book           book             book
chart         chart_bar            bar_chart           bar-chart        bar-chart
pie-chart     chart_pie            pie_chart           pie-chart        pie-chart
trending      graph_square         trending_up         trending-up      graph-up
briefcase     briefcase            work                briefcase        briefcase
building      building_2           apartment           business         building
car           -                    directions_car      car              car-front
bus           -                    directions_bus      bus              bus-front
bicycle       -                    directions_bike     bicycle          bicycle
train         -                    train               train            train-front
paint         paintbrush           brush               brush            brush
palette       -                    palette             color-palette    palette
scissors      scissors             content_cut         cut              scissors
bulb          lightbulb            lightbulb           bulb             lightbulb
flame         flame                local_fire_department flame          fire
leaf          -                    eco                 leaf             tree
drop          drop                 water_drop          water            droplet
thermometer   thermometer          thermostat          thermometer      thermometer
cup           -                    local_cafe          cafe             cup-hot
restaurant    -                    restaurant          restaurant       -
medkit        -                    medical_services    medkit           -
code          chevron_left_slash_chevron_right code    code-slash       code
language      textformat           translate           language         translate
text-size     textformat_size      format_size         text             type
hand          hand_raised          pan_tool            hand-left        hand-index
thumb-up      hand_thumbsup        thumb_up            thumbs-up        hand-thumbs-up
thumb-down    hand_thumbsdown      thumb_down          thumbs-down      hand-thumbs-down
smile         smiley               mood                happy            emoji-smile
qr            qrcode               qr_code             qr-code          qr-code
scan          qrcode_viewfinder    qr_code_scanner     scan             upc-scan
logout        square_arrow_right   logout              log-out          box-arrow-right
fingerprint   -                    fingerprint         finger-print     fingerprint
pin           pin                  push_pin            pin              pin
expand        arrow_up_left_arrow_down_right fullscreen expand          fullscreen
tv            tv                   tv                  tv               tv
bed           bed_double           hotel               bed              -
ticket        tickets              confirmation_number ticket           ticket
trophy        rosette              emoji_events        trophy           trophy
"""

SETS = ("f7", "material", "ionicons", "bootstrap")


def _parse() -> dict[str, dict[str, str]]:
    """The table as {set: {our name: glyph}}."""
    icons: dict[str, dict[str, str]] = {name: {} for name in SETS}
    for line in TABLE.strip().splitlines():
        ours, *glyphs = line.split()
        for family, glyph in zip(SETS, glyphs, strict=True):
            if glyph != "-":
                icons[family][ours] = glyph
    return icons


GLYPHS = _parse()
NAMES = tuple(line.split()[0] for line in TABLE.strip().splitlines())


def available(family: str, node_modules: Path) -> set[str]:
    """Every glyph name that the installed icon package can draw."""
    if family == "f7":
        return {p.stem for p in (node_modules / "framework7-icons/svg").glob("*.svg")}
    if family == "ionicons":
        return {p.stem for p in (node_modules / "ionicons/dist/svg").glob("*.svg")}
    if family == "bootstrap":
        return {p.stem for p in (node_modules / "bootstrap-icons/icons").glob("*.svg")}
    css = (node_modules / "material-icons/css/_codepoints.scss").read_text()
    return set(re.findall(r'"([a-z0-9_]+)":', css))


def missing(node_modules: Path) -> dict[str, list[str]]:
    """Names whose glyph the package lacks, per icon set."""
    report = {}
    for family in SETS:
        have = available(family, node_modules)
        report[family] = sorted(
            f"{ours}={glyph}"
            for ours, glyph in GLYPHS[family].items()
            if glyph not in have
        )
    return report
