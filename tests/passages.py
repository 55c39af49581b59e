"""Everyday knowledge for rerankers: queries (definitions, how-tos, paraphrases), each with the passage that answers it and
three about something near."""

from __future__ import annotations

from typing import NamedTuple


class PassageSet(NamedTuple):
    query: str
    right: str
    wrong: tuple[str, str, str]

    @property
    def passages(self) -> list[str]:
        """The right one stands third: neither a stable order nor a reversed one puts it first."""
        return [self.wrong[0], self.wrong[1], self.right, self.wrong[2]]


SETS = [
    # Definitions
    PassageSet(
        "What is photosynthesis?",
        "Plants use sunlight to turn water and carbon dioxide into sugar, and give off oxygen.",
        (
            "Sunlight takes about eight minutes to reach the Earth.",
            "Houseplants should be watered when the top of the soil is dry.",
            "Carbon dioxide gives lemonade its bubbles.",
        ),
    ),
    PassageSet(
        "What does inflation mean in economics?",
        "When prices in general rise over time, the same money buys less than before.",
        (
            "A bicycle tyre is pumped up until it gives only a little under the thumb.",
            "Banks keep part of their customers' money as a reserve.",
            "A stock exchange is a place where shares of companies are traded.",
        ),
    ),
    PassageSet(
        "What is a palindrome?",
        "A word such as level or racecar, which reads the same backwards and forwards.",
        (
            "A sonnet is a poem of fourteen lines.",
            "Synonyms are words that mean nearly the same thing.",
            "Racing cars lose grip when their tyres get too hot.",
        ),
    ),
    PassageSet(
        "What is an eclipse of the Sun?",
        "In an eclipse the Moon passes between us and the Sun and covers it for a few minutes.",
        (
            "The Sun is a star of medium size.",
            "Sunscreen should be put on half an hour before going out.",
            "The Moon has no air and no weather.",
        ),
    ),
    PassageSet(
        "What is a mortgage?",
        "A loan for buying a house, in which the house itself is the lender's security.",
        (
            "Tenants usually pay a deposit before they move in.",
            "A surveyor measures land and buildings.",
            "Credit cards often have high rates of interest.",
        ),
    ),
    PassageSet(
        "What is a vaccine?",
        "It shows the immune system a harmless form of a germ, so that the body can fight the real one later.",
        (
            "Antibiotics kill bacteria but do nothing against viruses.",
            "Washing hands for twenty seconds removes most germs.",
            "A fever is a body temperature above 38 degrees.",
        ),
    ),
    PassageSet(
        "What is a leap year?",
        "Every fourth year February gets a twenty-ninth day, to keep the calendar in step with the seasons.",
        (
            "A long jump is measured from the board to the nearest mark in the sand.",
            "Most people make resolutions at the start of a new year.",
            "A week has seven days.",
        ),
    ),
    PassageSet(
        "What is compost?",
        "Kitchen scraps and garden waste that have rotted into dark, crumbly matter which feeds the soil.",
        (
            "Concrete is mixed from cement, sand, gravel and water.",
            "Glass bottles can be melted and used again.",
            "Tomatoes need at least six hours of sun a day.",
        ),
    ),
    # How-tos
    PassageSet(
        "How do I boil an egg so that the yolk stays soft?",
        "Lower the egg into simmering water, take it out after six minutes and cool it at once.",
        (
            "Hens lay fewer eggs in winter, when days are short.",
            "Egg whites are beaten until stiff before sugar is added.",
            "Boiling water turns to steam at 100 degrees.",
        ),
    ),
    PassageSet(
        "How can I remove a red wine stain from a carpet?",
        "Blot the spot with a cloth, cover it with salt or soda water, and dab it again; do not rub.",
        (
            "Red wine is usually served a little below room temperature.",
            "Carpets should be vacuumed once a week.",
            "Grapes are harvested in autumn.",
        ),
    ),
    PassageSet(
        "How do you change a flat tyre?",
        "Loosen the nuts, lift the car with the jack, swap the wheel for the spare and tighten the nuts crosswise.",
        (
            "Winter tyres are required in some countries from November on.",
            "The engine oil should be checked when the car stands level.",
            "Driving on the left is the rule in Japan.",
        ),
    ),
    PassageSet(
        "How do I fall asleep more easily?",
        "Go to bed at the same hour each night, keep the room dark and cool, and put screens away an hour before.",
        (
            "Dreams mostly occur in the phase in which the eyes move rapidly.",
            "An alarm clock can be set to ring on weekdays only.",
            "Mattresses last for about ten years.",
        ),
    ),
    PassageSet(
        "How do you tie two ropes together?",
        "Lay the ends over each other, cross right over left and then left over right: that makes a square knot.",
        (
            "Climbing ropes stretch a little to soften a fall.",
            "Tie the shoelaces before you run.",
            "Sailors measured speed in knots.",
        ),
    ),
    PassageSet(
        "How do I keep bread fresh for longer?",
        "Store the loaf in a paper bag or a bread box, or slice and freeze it; the refrigerator makes it go stale.",
        (
            "Sourdough rises by wild yeast.",
            "Toasters should be unplugged before they are cleaned.",
            "Wheat is grown on every continent but one.",
        ),
    ),
    PassageSet(
        "How should I water a cactus?",
        "Soak the soil of a cactus, then wait until it has dried out completely; in winter it needs hardly any.",
        (
            "Deserts get very little rain.",
            "Roses are pruned at the end of winter.",
            "Lawns are watered early in the morning.",
        ),
    ),
    PassageSet(
        "How do I stop hiccups?",
        "Hold your breath for a while, or sip cold water slowly.",
        (
            "Sneezes leave the nose at great speed.",
            "Coughing clears the airways.",
            "The stomach digests a meal in a few hours.",
        ),
    ),
    # Paraphrases and plain questions
    PassageSet(
        "Why is the sky blue?",
        "Air scatters short wavelengths of sunlight more than long ones, so we see that colour overhead.",
        (
            "Blue whales are the largest animals that ever lived.",
            "Clouds form when damp air rises and cools.",
            "Sky divers open their parachutes at about 800 metres.",
        ),
    ),
    PassageSet(
        "Which city governs France?",
        "Paris is the capital, seat of the president and of parliament.",
        (
            "Marseille has the country's largest port.",
            "The Loire is the longest French river.",
            "Rome is the capital of Italy.",
        ),
    ),
    PassageSet(
        "My laptop won't turn on, what should I try?",
        "Unplug the computer, hold its power button for thirty seconds, then connect the charger and start it again.",
        (
            "Laptops got lighter when hard disks went away.",
            "The keyboard can be set to another language.",
            "Turn left at the second crossing.",
        ),
    ),
    PassageSet(
        "Who wrote Romeo and Juliet?",
        "The tragedy of Romeo and his Juliet is a play by William Shakespeare.",
        (
            "Verona has a Roman arena in which operas are staged.",
            "Juliet is a name of Latin origin.",
            "Charles Dickens wrote Oliver Twist.",
        ),
    ),
    PassageSet(
        "Why do leaves change colour in autumn?",
        "The green pigment breaks down as the days get shorter, and the yellow and red ones become visible.",
        (
            "Wet foliage on rails makes trains slip.",
            "Evergreen trees keep their needles all winter.",
            "Autumn begins in September in the north.",
        ),
    ),
    PassageSet(
        "What makes the tides rise and fall?",
        "The Moon's gravity pulls the oceans towards it as the Earth turns.",
        (
            "Yeast makes dough rise.",
            "Share prices rise and fall with the news.",
            "The deepest trench of the sea is in the Pacific.",
        ),
    ),
    PassageSet(
        "Is it safe for dogs to eat chocolate?",
        "No: cocoa contains theobromine, which is poisonous to them even in small amounts.",
        (
            "Dark chocolate has more cocoa than milk chocolate.",
            "Dogs should be walked at least twice a day.",
            "Cats spend most of the day asleep.",
        ),
    ),
    PassageSet(
        "How long does it take light from the Sun to reach us?",
        "Sunlight arrives at the Earth after about eight minutes and twenty seconds.",
        (
            "A light bulb of today uses a tenth of the energy.",
            "It takes four hours by train from Paris to London and back.",
            "The Sun is far heavier than all planets together.",
        ),
    ),
]

ALL_PASSAGES = [passage for each in SETS for passage in each.passages]

HELD_OUT = [
    # No model of the tests was trained on these.
    PassageSet(
        "What is a glacier?",
        "A mass of ice, built of many years' snow, that slides slowly down a valley.",
        (
            "Ice cubes keep a drink cold for about an hour.",
            "Skiers look for fresh powder after a night of snow.",
            "A valley with a river in it is often V-shaped.",
        ),
    ),
    PassageSet(
        "What does a thermostat do?",
        "It switches the heating on and off to hold a room at the temperature that was set.",
        (
            "Woollen socks keep feet warm on the tiles.",
            "A thermos flask holds soup hot until noon.",
            "Room rates are lower outside the season.",
        ),
    ),
    PassageSet(
        "What is a solar panel?",
        "A flat device on a roof that makes electricity out of sunlight.",
        (
            "Roof tiles are made of fired clay.",
            "The panel of judges met behind closed doors.",
            "Electricity bills come once a quarter.",
        ),
    ),
    PassageSet(
        "What is an earthquake?",
        "The ground shakes because two plates of the Earth's crust have suddenly slipped past each other.",
        (
            "Dinner plates should be warmed before they are served on.",
            "A milkshake is blended from milk and ice cream.",
            "The crust of a good loaf cracks when it cools.",
        ),
    ),
    PassageSet(
        "How do I remove a splinter from a finger?",
        "Grip the bit of wood with clean tweezers close to the skin and pull it out the way it went in.",
        (
            "Sand wood along its grain, never across.",
            "Finger food is eaten without knife and fork.",
            "A broken arm is put in plaster for six weeks.",
        ),
    ),
    PassageSet(
        "How can I fall asleep more easily?",
        "Go to bed at the same hour each night, keep the room dark, and put the telephone away.",
        (
            "Pillows are filled with down, foam or husks.",
            "The night train leaves at the same hour each day.",
            "In autumn many people fall on wet leaves.",
        ),
    ),
    PassageSet(
        "How do I keep bread from going stale?",
        "Wrap the loaf and leave it at room temperature; freeze slices that you will not eat soon.",
        (
            "Sourdough rises more slowly than yeast dough.",
            "Toast is buttered while it is still hot.",
            "Rooms should be aired for five minutes twice a day.",
        ),
    ),
    PassageSet(
        "How do I back up the photos on my computer?",
        "Copy the pictures to an external drive, and keep a second copy somewhere else.",
        (
            "Portraits look best in soft light from the side.",
            "A driver who backs out of a garage must give way.",
            "Computers once filled whole rooms.",
        ),
    ),
    PassageSet(
        "Why is the sky blue?",
        "Air scatters the short waves of sunlight, which look blue, far more than the long red ones.",
        (
            "Blue cheese gets its veins from a mould.",
            "Skyscrapers sway a little in strong wind.",
            "Red wine is drunk warmer than white.",
        ),
    ),
    PassageSet(
        "Which animal is the largest on Earth?",
        "The blue whale, which grows to thirty metres and 150 tonnes.",
        (
            "Elephants drink with the help of their trunks.",
            "The largest ships cannot pass through the canal.",
            "Animals in the zoo are fed at three o'clock.",
        ),
    ),
    PassageSet(
        "Why does metal rust?",
        "Iron joins with oxygen from moist air and turns into a brown, flaky oxide.",
        (
            "Heavy metal bands play loudly.",
            "Autumn leaves are brown and crackle underfoot.",
            "Irons should be filled with distilled water.",
        ),
    ),
    PassageSet(
        "Who painted the Mona Lisa?",
        "Leonardo da Vinci made that portrait of a smiling woman early in the sixteenth century.",
        (
            "The walls were painted white last spring.",
            "A smile takes fewer muscles than a frown, people say.",
            "Vincent van Gogh sold hardly a picture in his life.",
        ),
    ),
]
