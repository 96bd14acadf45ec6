"""Home Assistant's own Ollama integration against a running pled, driven through its conversation API.

    PLED_URL=http://127.0.0.1:50051 pytest home_assistant.py

A light of Home Assistant's demo is switched by what a person says. Nothing is patched but which demo platforms are set up.
"""

import os
from unittest.mock import patch

import pytest
from homeassistant.components import conversation
from homeassistant.components.homeassistant.exposed_entities import async_expose_entity
from homeassistant.const import ATTR_ENTITY_ID, Platform
from homeassistant.core import Context, HomeAssistant
from homeassistant.helpers import area_registry, entity_registry
from homeassistant.setup import async_setup_component
from pytest_homeassistant_custom_component.common import MockConfigEntry

LIGHT = "light.kitchen_lights"


@pytest.fixture
def expected_lingering_timers() -> bool:
    """Home Assistant forgets conversations by a timer of its own."""
    return True


async def home(hass: HomeAssistant) -> MockConfigEntry:
    """A home with one exposed light, and the Ollama integration as a person sets it up."""
    for component in ("homeassistant", "intent", "conversation"):
        assert await async_setup_component(hass, component, {})
    demo = MockConfigEntry(domain="demo")
    demo.add_to_hass(hass)
    with patch("homeassistant.components.demo.COMPONENTS_WITH_CONFIG_ENTRY_DEMO_PLATFORM", [Platform.LIGHT]):
        assert await hass.config_entries.async_setup(demo.entry_id)
        await hass.async_block_till_done()
    kitchen = area_registry.async_get(hass).async_get_or_create("Kitchen")
    entity_registry.async_get(hass).async_update_entity(LIGHT, area_id=kitchen.id)
    for state in hass.states.async_all("light"):
        async_expose_entity(hass, "conversation", state.entity_id, state.entity_id == LIGHT)
    data = {"url": os.environ["PLED_URL"], "model": os.environ.get("PLED_MODEL", "home-mini")}
    ollama = MockConfigEntry(domain="ollama", title="pled", data=data, options={"llm_hass_api": "assist", "num_ctx": 8192})
    ollama.add_to_hass(hass)
    assert await hass.config_entries.async_setup(ollama.entry_id)
    await hass.async_block_till_done()
    return ollama


async def test_a_light_is_switched_by_what_is_said(hass: HomeAssistant, socket_enabled: None) -> None:
    agent = await home(hass)

    async def say(text: str, conversation_id: str | None = None) -> conversation.ConversationResult:
        result = await conversation.async_converse(hass, text, conversation_id, Context(), agent_id=agent.entry_id)
        await hass.async_block_till_done()
        return result

    await hass.services.async_call("light", "turn_on", {ATTR_ENTITY_ID: LIGHT}, blocking=True)
    first = await say("turn off the kitchen lights")
    print(first.response.as_dict())
    assert hass.states.get(LIGHT).state == "off"
    assert first.response.speech["plain"]["speech"]
    await say("turn on the kitchen lights", first.conversation_id)
    assert hass.states.get(LIGHT).state == "on"
